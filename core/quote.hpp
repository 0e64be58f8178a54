// Text from a file we do not trust, fit for a one-line message: in quotes, at most 80 bytes, control characters as '?'.
#pragma once

#include <string>
#include <string_view>

namespace lorashard::core {

inline std::string in_quotes(std::string_view untrusted) {
  constexpr std::size_t kMost = 80;
  std::string out = "'";
  for (const char c : untrusted.substr(0, kMost)) out += (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) ? '?' : c;
  return out + (untrusted.size() > kMost ? "...'" : "'");
}

}  // namespace lorashard::core
