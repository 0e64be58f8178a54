#include "core/added_tokens.hpp"

#include <utf8proc.h>

#include <algorithm>

#include "core/unicode_class.hpp"
#include "core/utf8.hpp"

namespace lorashard::core {
namespace {

// \w of the reference: letters, marks, decimal and letter-like numbers, connecting punctuation, the two joiners, and
// letters in circles. Numbers and punctuation are those of utf8proc's Unicode 15.0.
bool is_word(char32_t c) {
  const UnicodeClass kind = unicode_class(c);
  if (kind == UnicodeClass::letter || kind == UnicodeClass::mark) return true;
  if (c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
      (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189))
    return true;
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_PC;
}

char32_t code_point_before(std::string_view text, std::size_t end, std::size_t& begin) {
  begin = end - 1;
  while ((text[begin] & 0xC0) == 0x80) --begin;
  std::size_t at = begin;
  return next_code_point(text, at);
}

bool word_ends_at(std::string_view text, std::size_t at) {
  std::size_t before = 0;
  return at > 0 && is_word(code_point_before(text, at, before));
}

bool word_begins_at(std::string_view text, std::size_t at) {
  return at < text.size() && is_word(next_code_point(text, at));
}

std::size_t spaces_begin(std::string_view text, std::size_t end) {
  for (std::size_t before = 0; end > 0; end = before)
    if (unicode_class(code_point_before(text, end, before)) != UnicodeClass::space) break;
  return end;
}

std::size_t spaces_end(std::string_view text, std::size_t at) {
  for (std::size_t after = at; at < text.size(); at = after)
    if (unicode_class(next_code_point(text, after)) != UnicodeClass::space) break;
  return at;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end(), [](const auto& a, const auto& b) { return a.content < b.content; });
  for (const AddedToken& token : tokens_)
    if (!token.content.empty()) begins_[static_cast<unsigned char>(token.content[0])] = true;
}

// Narrows the sorted tokens byte by byte to those that begin like the text.
const AddedToken* AddedTokens::longest_at(std::string_view text, std::size_t at) const {
  const AddedToken* longest = nullptr;
  auto first = tokens_.begin(), last = tokens_.end();
  const auto byte = [](const AddedToken& token, std::size_t i) {  // the end of a token comes before every byte
    return token.content.size() > i ? static_cast<unsigned char>(token.content[i]) : -1;
  };
  for (std::size_t length = 0; at + length < text.size() && first != last; ++length) {
    const int wanted = static_cast<unsigned char>(text[at + length]);
    first = std::partition_point(first, last, [&](const auto& token) { return byte(token, length) < wanted; });
    last = std::partition_point(first, last, [&](const auto& token) { return byte(token, length) == wanted; });
    if (first != last && first->content.size() == length + 1) longest = &*first;
  }
  return longest;
}

std::vector<AddedTokens::Part> AddedTokens::parts(std::string_view text, bool specials) const {
  std::vector<Part> parts;
  std::size_t start = 0;  // of the text that no part covers yet
  for (std::size_t at = 0; at < text.size();) {
    const AddedToken* token = begins_[static_cast<unsigned char>(text[at])] ? longest_at(text, at) : nullptr;
    if (!token) {
      ++at;
      continue;
    }
    std::size_t begin = at, end = at + token->content.size();
    at = end;
    if (token->special && !specials) continue;
    if (token->single_word && (word_ends_at(text, begin) || word_begins_at(text, end))) continue;
    if (token->lstrip) begin = std::max(start, spaces_begin(text, begin));
    if (token->rstrip) end = spaces_end(text, end);
    if (start < begin) parts.push_back({start, begin, nullptr});
    parts.push_back({begin, end, token});
    start = end;
  }
  if (start < text.size()) parts.push_back({start, text.size(), nullptr});
  return parts;
}

}  // namespace lorashard::core
