// GPT-2's way to write any bytes as visible characters (Radford et al. 2019, encoder.py), which byte-level vocabularies
// are in: the space is U+0120 there.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace lorashard::core {

// The UTF-8 of the character that stands for a byte; one or two bytes long.
const std::string& visible_character(unsigned char byte);
std::string to_visible(std::string_view bytes);
// The bytes that a visible text stands for; nothing when one of its characters stands for none.
std::optional<std::string> from_visible(std::string_view text);

}  // namespace lorashard::core
