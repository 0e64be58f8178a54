// GPT-2's cut of a text into words, inside of which byte pairs are merged (Radford et al. 2019, encoder.py):
//
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
#pragma once

#include <cstddef>
#include <string_view>

namespace lorashard::core {

// The end of the word that begins at byte `at`; every word has at least one code point. The text is valid UTF-8 and
// does not end at `at`.
std::size_t gpt2_word_end(std::string_view text, std::size_t at);

}  // namespace lorashard::core
