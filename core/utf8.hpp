// UTF-8 by Boost.Locale's header, which needs no library: overlong forms, surrogates and cut sequences are invalid.
#pragma once

#include <boost/locale/utf.hpp>
#include <string>
#include <string_view>

namespace lorashard::core {

// The offset in bytes of the first sequence that is not UTF-8; npos when all of it is.
inline std::size_t invalid_utf8_at(std::string_view text) {
  namespace utf = boost::locale::utf;
  for (const char *at = text.data(), *end = at + text.size(); at != end;) {
    const char* start = at;
    const utf::code_point c = utf::utf_traits<char>::decode(at, end);
    if (c == utf::illegal || c == utf::incomplete) return static_cast<std::size_t>(start - text.data());
  }
  return std::string_view::npos;
}

// With U+FFFD for every byte that is not part of UTF-8.
inline std::string with_valid_utf8(std::string_view text) {
  std::string valid;
  for (std::size_t at; (at = invalid_utf8_at(text)) != std::string_view::npos; text.remove_prefix(at + 1))
    valid.append(text.substr(0, at)).append("\uFFFD");
  return valid.append(text);
}

// The code point at offset `at`, which moves behind it. The text is valid UTF-8 and does not end at `at`.
inline char32_t next_code_point(std::string_view text, std::size_t& at) {
  const char* from = text.data() + at;
  const char32_t c = boost::locale::utf::utf_traits<char>::decode_valid(from);
  at = static_cast<std::size_t>(from - text.data());
  return c;
}

}  // namespace lorashard::core
