#include "core/text_pattern_rewrite.hpp"

#include <cctype>
#include <cstring>
#include <string_view>

#include "core/quote.hpp"
#include "core/unicode_class.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {
namespace {

using kernels::text;

// Members of a byte class, for a pattern: ASCII's, then the bytes beyond it.
constexpr const char* kLetters = "A-Za-z\\x80\\x81\\x82";
constexpr const char* kNumbers = "0-9\\x83";
constexpr const char* kMarks = "\\x84";
constexpr const char* kSpaces = "\\x09-\\x0d\\x20\\x85";
// All bytes that are not those: for \P{L}, \S and their like inside of brackets.
constexpr const char* kNotLetters = "\\x00-@\\[-`{-\\x7f\\x83-\\xff";
constexpr const char* kNotNumbers = "\\x00-/:-\\x7f\\x80-\\x82\\x84-\\xff";
constexpr const char* kNotMarks = "\\x00-\\x83\\x85-\\xff";
constexpr const char* kNotSpaces = "\\x00-\\x08\\x0e-\\x1f!-\\x84\\x86-\\xff";
constexpr const char* kLongS = "\\x81";
constexpr const char* kKelvin = "\\x82";
constexpr int kMostGroups = 32;  // one inside the other

class Rewriter {
 public:
  Rewriter(const std::string& pattern, const std::string& where) : pattern_(pattern), where_(where) {}

  std::string run() {
    alternatives(false, 0);
    if (at_ != pattern_.size()) refuse(pattern_.substr(at_, 1));
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    kernels::fail(kernels::Failure::configuration,
                  text(where_, ": found ", in_quotes(what), " at byte ", at_, " of the pattern ", in_quotes(pattern_),
                       ", which is not supported"));
  }
  bool done() const { return at_ == pattern_.size(); }
  bool takes(std::string_view next) {
    if (pattern_.compare(at_, next.size(), next) != 0) return false;
    at_ += next.size();
    return true;
  }

  void alternatives(bool fold, int depth) {
    while (!done() && pattern_[at_] != ')') {
      if (takes("|")) {
        out_ += '|';
        continue;
      }
      piece(fold, depth);
      repetition();
    }
  }

  void piece(bool fold, int depth) {
    if (takes("[")) return brackets(fold);
    if (takes("(")) return group(fold, depth);
    if (takes(".")) return void(out_ += "[^\\n]");
    if (std::strchr("*+?{}]^$", pattern_[at_])) refuse(pattern_.substr(at_, 1));
    out_ += '[' + members(fold) + ']';
  }

  void group(bool fold, int depth) {
    if (depth == kMostGroups) refuse("(");
    if (takes("?i:")) {
      fold = true;
      out_ += "(?:";
    } else if (takes("?=") || takes("?!")) {
      out_ += "(?" + pattern_.substr(at_ - 1, 1);
    } else {
      if (!takes("?:") && !done() && pattern_[at_] == '?') refuse(pattern_.substr(at_ - 1, 4));
      out_ += "(?:";
    }
    alternatives(fold, depth + 1);
    if (!takes(")")) refuse("(");
    out_ += ')';
  }

  void repetition() {
    if (done()) return;
    if (std::strchr("*+?", pattern_[at_])) {
      out_ += pattern_[at_++];
      if (takes("+"))
        out_ += '+';
      else if (takes("?"))
        out_ += '?';
    } else if (pattern_[at_] == '{') {
      const std::size_t end = pattern_.find('}', at_);
      const std::string bounds = pattern_.substr(at_, end == pattern_.npos ? end : end - at_ + 1);
      // {,n} and what is no number mean something else in one of the two syntaxes.
      if (bounds.size() < 3 || bounds.size() > 9 || !std::isdigit(static_cast<unsigned char>(bounds[1])) ||
          bounds.find_first_not_of("0123456789,", 1) != bounds.size() - 1)
        refuse(bounds);
      out_ += bounds;
      at_ = end + 1;
    }
    if (!done() && std::strchr("*+?{", pattern_[at_])) refuse(pattern_.substr(at_, 1));  // a repetition of a repetition
  }

  void brackets(bool fold) {
    out_ += '[';
    if (takes("^")) out_ += '^';
    const std::size_t start = at_;
    while (!done() && pattern_[at_] != ']') {
      if (pattern_[at_] == '[' || pattern_.compare(at_, 2, "&&") == 0) refuse(pattern_.substr(at_, 2));
      const std::size_t first = at_;
      const std::string one = members(fold);
      if (at_ + 1 >= pattern_.size() || pattern_[at_] != '-' || pattern_[at_ + 1] == ']') {
        out_ += one;
        continue;
      }
      const char from = pattern_[first];
      const char to = pattern_[++at_];
      if (at_ - first != 2 || fold || !std::isalnum(static_cast<unsigned char>(from)) ||
          !std::isalnum(static_cast<unsigned char>(to)) || from > to)
        refuse(pattern_.substr(first, 3));
      out_ += {from, '-', to};
      ++at_;
    }
    if (at_ == start || !takes("]")) refuse("[");
    out_ += ']';
  }

  // What stands for one character, without brackets around it.
  std::string members(bool fold) {
    if (takes("\\p{L}")) return kLetters;
    if (takes("\\p{N}")) return kNumbers;
    if (takes("\\p{M}")) return kMarks;
    if (takes("\\s")) return kSpaces;
    if (takes("\\P{L}")) return kNotLetters;
    if (takes("\\P{N}")) return kNotNumbers;
    if (takes("\\P{M}")) return kNotMarks;
    if (takes("\\S")) return kNotSpaces;
    const bool escaped = takes("\\");
    if (done()) refuse("\\");
    char c = pattern_[at_];
    if (static_cast<unsigned char>(c) >= 0x80 || c == '\0') refuse(pattern_.substr(at_));
    if (escaped && std::isalnum(static_cast<unsigned char>(c))) {
      const char* control = std::strchr("r\rn\nt\tf\fv\v", c);
      if (!std::strchr("rntfv", c)) refuse(pattern_.substr(at_ - 1, 6));
      c = control[1];
    }
    ++at_;
    if (!std::isalpha(static_cast<unsigned char>(c))) return hex(c);
    if (!fold) return {c};
    const char small = static_cast<char>(c | 0x20), large = static_cast<char>(small & ~0x20);
    return std::string{small, large} + (small == 's' ? kLongS : small == 'k' ? kKelvin : "");
  }

  static std::string hex(char c) {
    constexpr const char* kDigits = "0123456789abcdef";
    return std::string("\\x") + kDigits[c >> 4] + kDigits[c & 15];
  }

  const std::string& pattern_;
  const std::string& where_;
  std::size_t at_ = 0;
  std::string out_;
};

}  // namespace

char class_byte(char32_t c) {
  if (c < 0x80) return static_cast<char>(c);
  if (c == 0x17F) return '\x81';
  if (c == 0x212A) return '\x82';
  switch (unicode_class(c)) {
    case UnicodeClass::letter:
      return '\x80';
    case UnicodeClass::number:
      return '\x83';
    case UnicodeClass::mark:
      return '\x84';
    case UnicodeClass::space:
      return '\x85';
    case UnicodeClass::other:
      break;
  }
  return '\x86';
}

std::string pattern_of_classes(const std::string& pattern, const std::string& where) {
  return Rewriter(pattern, where).run();
}

}  // namespace lorashard::core
