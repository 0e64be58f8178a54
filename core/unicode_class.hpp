// The classes of code points that the tokenizers' patterns ask for: \p{L}, \p{N}, \p{M}, \s and the rest.
//
// Unicode 16.0, as the public tokenizers have it. A table of our own because the distribution's libraries stop at 15.0:
// they miss 4924 letters and 80 numbers, and a tokenizer must not change its answers with the machine.
#pragma once

namespace lorashard::core {

enum class UnicodeClass { letter, number, mark, space, other };

UnicodeClass unicode_class(char32_t code_point);

}  // namespace lorashard::core
