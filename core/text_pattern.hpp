// The patterns by which tokenizer files cut text, with the meaning they have for the public tokenizers on every
// machine: letters, numbers, marks and white space are those of unicode_class.hpp, not of the regular-expression
// library.
//
// A code point becomes one byte: itself in ASCII, else its class. The pattern is rewritten to match such bytes and
// given to PCRE2, which then knows nothing of Unicode. Accepted: ASCII characters, . and classes, \p{L} \p{N} \p{M} \s
// and their negations, alternatives, groups, (?i:...), lookahead, greedy, lazy and possessive repetition. The rest is
// refused by name: what is accepted means the same here and in the reference (Oniguruma).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lorashard::core {

struct TextSpan {
  std::size_t begin, end;  // bytes
};

class TextPattern {
 public:
  // Throws Failure::configuration "<where>: found '<pattern>' ...".
  static TextPattern regex(const std::string& pattern, const std::string& where);
  // The text itself, not empty.
  static TextPattern literal(const std::string& text, const std::string& where);

  // The matches in a valid UTF-8 text, from left to right, not overlapping, none empty.
  std::vector<TextSpan> matches(std::string_view text) const;

 private:
  std::string literal_;
  std::shared_ptr<const struct CompiledPattern> compiled_;
};

}  // namespace lorashard::core
