#include "core/unicode_forms.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <new>

#include "core/utf8.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {
namespace {

struct Range {
  char32_t first, last;
};

// Code points with a combining class or a decomposition that utf8proc 2.8 (Unicode 15.0) knows and the reference does
// not, found by asking both about every code point; and U+11930, the second part of U+11938. The reference leaves them
// where they are, and so does a text that is cut there.
constexpr Range kUnknown[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},
    {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x10785},
    {0x10787, 0x107B0}, {0x107B2, 0x107BA}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E},
    {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943},
    {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42},
    {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E030, 0x1E06D},
    {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
    {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9},
};

bool unknown(char32_t c) {
  if (c < kUnknown[0].first) return false;
  const Range* after = std::upper_bound(std::begin(kUnknown), std::end(kUnknown), c,
                                        [](char32_t x, const Range& r) { return x < r.first; });
  return after != kUnknown && c <= std::prev(after)->last;
}

void append_form(std::string_view text, int options, std::string& to) {
  if (text.empty()) return;
  utf8proc_uint8_t* made = nullptr;
  const utf8proc_ssize_t bytes =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &made, static_cast<utf8proc_option_t>(options | UTF8PROC_STABLE));
  if (bytes < 0) {
    if (bytes == UTF8PROC_ERROR_NOMEM) throw std::bad_alloc();
    kernels::fail(kernels::Failure::configuration,
                  kernels::text("cannot bring a text to a normal form: ", utf8proc_errmsg(bytes)));
  }
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(made, std::free);
  to.append(reinterpret_cast<const char*>(made), static_cast<std::size_t>(bytes));
}

// Letters with a small one that Unicode 15.0 does not have, and U+0130, which becomes two.
char32_t newer_small(char32_t c) {
  if (c >= 0x10D50 && c <= 0x10D65) return c + 0x20;
  if (c >= 0x16EA0 && c <= 0x16EB8) return c + 0x1B;
  switch (c) {
    case 0x1C89:
      return 0x1C8A;
    case 0xA7CB:
      return 0x264;
    case 0xA7CC:
      return 0xA7CD;
    case 0xA7CE:
      return 0xA7CF;
    case 0xA7D2:
      return 0xA7D3;
    case 0xA7D4:
      return 0xA7D5;
    case 0xA7DA:
      return 0xA7DB;
    case 0xA7DC:
      return 0x19B;
    default:
      return c;
  }
}

}  // namespace

std::string normal_form(std::string_view text, NormalForm form) {
  if (std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; }))
    return std::string(text);
  const bool composed = form == NormalForm::nfc || form == NormalForm::nfkc;
  const bool compatible = form == NormalForm::nfkc || form == NormalForm::nfkd;
  const int options = (composed ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) | (compatible ? UTF8PROC_COMPAT : 0);
  std::string result;
  std::size_t start = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t before = at;
    if (!unknown(next_code_point(text, at))) continue;
    append_form(text.substr(start, before - start), options, result);
    result += text.substr(before, at - before);
    start = at;
  }
  append_form(text.substr(start), options, result);
  return result;
}

std::string lower_case(std::string_view text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    if (c == 0x130) {
      result += "i\u0307";
      continue;
    }
    char32_t small = newer_small(c);
    if (small == c) small = static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
    utf8proc_uint8_t bytes[4];
    const auto n = utf8proc_encode_char(static_cast<utf8proc_int32_t>(small), bytes);
    result.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(n));
  }
  return result;
}

}  // namespace lorashard::core
