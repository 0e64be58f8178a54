#include "core/tokenizer_gpt2_words.hpp"

#include <initializer_list>

#include "core/unicode_class.hpp"
#include "core/utf8.hpp"

namespace lorashard::core {
namespace {

// The end of the longest run of one class from `at` on; `last` is where its last code point begins.
std::size_t run_end(std::string_view text, std::size_t at, UnicodeClass kind, std::size_t& last) {
  while (at < text.size()) {
    std::size_t after = at;
    if (unicode_class(next_code_point(text, after)) != kind) break;
    last = at;
    at = after;
  }
  return at;
}

}  // namespace

std::size_t gpt2_word_end(std::string_view text, std::size_t at) {
  if (text[at] == '\'')
    for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
      if (text.substr(at).starts_with(ending)) return at + ending.size();

  std::size_t start = at, after = at, last = at;
  UnicodeClass kind = unicode_class(next_code_point(text, after));
  if (text[at] == ' ' && after < text.size()) {  // the optional space before a letter, a number or a sign
    std::size_t second = after;
    const UnicodeClass next = unicode_class(next_code_point(text, second));
    if (next != UnicodeClass::space) {
      start = after;
      kind = next;
    }
  }
  const std::size_t end = run_end(text, start, kind, last);
  // \s+(?!\S): of several white spaces the last one is left to the word that follows.
  return kind == UnicodeClass::space && end < text.size() && last > at ? last : end;
}

}  // namespace lorashard::core
