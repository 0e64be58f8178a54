#include "core/score_words.hpp"

#include <locale.h>
#include <wctype.h>

#include <iterator>
#include <utility>

#include "core/utf8.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {
namespace {

// One to one, as the C library has it, but for the one letter whose lower case is two code points. Python, in which the
// challenge's scripts are written, differs in one more: a capital sigma at the end of a Greek word.
void append_lower(char32_t c, std::string& to) {
  static const locale_t utf8 = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  if (!utf8) kernels::fail(kernels::Failure::other, "locale: found no C.UTF-8, expected the C library to have it");
  constexpr char32_t kCapitalDottedI = 0x130;
  if (c == kCapitalDottedI) {
    to += "i\u0307";
    return;
  }
  const auto lower = static_cast<char32_t>(::towlower_l(static_cast<wint_t>(c), utf8));
  boost::locale::utf::utf_traits<char>::encode(lower, std::back_inserter(to));
}

// What Python's text methods and patterns call white space, the four separators of ASCII among it.
bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_point(char c) { return c == '.' || c == ','; }

// ASCII's signs that are words wherever they stand. Bytes of longer sequences are none of them.
bool stands_alone(char c) {
  return std::string_view("!\"#$%&()*+/:;<=>?@[\\]^_`{|}~").find(c) != std::string_view::npos;
}

void replace_all(std::string& in, std::string_view what, std::string_view by) {
  for (std::size_t at = 0; (at = in.find(what, at)) != std::string::npos; at += by.size())
    in.replace(at, what.size(), by);
}

// Puts blanks around one byte of each pair that `first` and `second` accept: its first (a period before a letter) or
// its second (one behind a letter). Pairs do not overlap: of two periods on end, the second is looked at as a first.
enum class Apart { first, second };
template <class First, class Second>
std::string set_apart(const std::string& in, Apart apart, const First& first, const Second& second) {
  std::string out;
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (i + 1 == in.size() || !first(in[i]) || !second(in[i + 1])) {
      out += in[i];
      continue;
    }
    if (apart == Apart::first) out += ' ';
    out += in[i];
    out += ' ';
    out += in[++i];
    if (apart == Apart::second) out += ' ';
  }
  return out;
}

}  // namespace

Words mteval_words(std::string_view line) {
  std::string text(line);
  replace_all(text, "<skipped>", "");
  // One after the other, so that what "&amp;lt;" becomes is read again.
  constexpr std::pair<const char*, const char*> kEntities[] = {
      {"&quot;", "\""}, {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}};
  for (const auto& [entity, sign] : kEntities) replace_all(text, entity, sign);
  std::string spread = " ";
  for (const char c : text) stands_alone(c) ? spread.append({' ', c, ' '}) : spread.append(1, c);
  spread += ' ';
  const auto no_digit = [](char c) { return !is_digit(c); };
  spread = set_apart(spread, Apart::second, no_digit, is_point);
  spread = set_apart(spread, Apart::first, is_point, no_digit);
  spread = set_apart(spread, Apart::second, is_digit, [](char c) { return c == '-'; });
  Words words = plain_words(spread);
  if (words.empty()) words.emplace_back();
  return words;
}

Words plain_words(std::string_view line) {
  Words words;
  std::string word;
  for (std::size_t at = 0; at < line.size();) {
    const char32_t c = next_code_point(line, at);
    if (!is_space(c))
      append_lower(c, word);
    else if (!word.empty())
      words.push_back(std::exchange(word, {}));
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

NgramCounts count_ngrams(const Words& words, int n) {
  NgramCounts counts;
  for (std::size_t first = 0; first + static_cast<std::size_t>(n) <= words.size(); ++first) {
    std::string run = words[first];
    for (std::size_t i = 1; i < static_cast<std::size_t>(n); ++i) run += " " + words[first + i];
    ++counts[run];
  }
  return counts;
}

}  // namespace lorashard::core
