// Normal forms and lower case as the public tokenizers' library has them.
#pragma once

#include <string>
#include <string_view>

namespace lorashard::core {

enum class NormalForm { nfc, nfd, nfkc, nfkd };

// By utf8proc, less what came after Unicode 9.0, where the tables of tokenizers 0.23 stop. Valid UTF-8 in and out.
std::string normal_form(std::string_view text, NormalForm form);
// Character by character, without regard to neighbours, as of Unicode 17.0.
std::string lower_case(std::string_view text);

}  // namespace lorashard::core
