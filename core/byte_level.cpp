#include "core/byte_level.hpp"

#include <array>

#include "core/utf8.hpp"

namespace lorashard::core {
namespace {

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<int, 324> bytes;  // by code point; -1 where it stands for none

  // A byte is itself where it is visible in Latin-1, else 256, 257, ... in their order.
  Alphabet() {
    bytes.fill(-1);
    char32_t next = 256;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool visible = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      const char32_t c = visible ? byte : next++;
      bytes[c] = static_cast<int>(byte);
      if (c < 0x80)
        characters[byte] = {static_cast<char>(c)};
      else
        characters[byte] = {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet made;
  return made;
}

}  // namespace

const std::string& visible_character(unsigned char byte) { return alphabet().characters[byte]; }

std::string to_visible(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() + bytes.size() / 4);
  for (const unsigned char byte : bytes) text += visible_character(byte);
  return text;
}

std::optional<std::string> from_visible(std::string_view text) {
  if (invalid_utf8_at(text) != text.npos) return std::nullopt;
  std::string bytes;
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    if (c >= alphabet().bytes.size() || alphabet().bytes[c] < 0) return std::nullopt;
    bytes += static_cast<char>(alphabet().bytes[c]);
  }
  return bytes;
}

}  // namespace lorashard::core
