// Tokens that are found in a text before anything else is done with it: the "added_tokens" of a tokenizer.json.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lorashard::core {

struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool special = false;      // marks something, and is no part of a text
  bool lstrip = false;       // takes the white space before it with it
  bool rstrip = false;       // and behind it
  bool single_word = false;  // not inside of a word
  bool normalized = false;   // looked for in the normalized text, normalized as well
};

// The longest token at each place, from left to right.
class AddedTokens {
 public:
  explicit AddedTokens(std::vector<AddedToken> tokens);

  struct Part {
    std::size_t begin, end;   // bytes
    const AddedToken* token;  // nullptr: text between tokens
  };
  // The parts of a valid UTF-8 text, in order, none empty. Without `specials` those that are special are text.
  std::vector<Part> parts(std::string_view text, bool specials) const;
  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  const AddedToken* longest_at(std::string_view text, std::size_t at) const;
  std::vector<AddedToken> tokens_;  // sorted by content
  bool begins_[256] = {};           // a token begins with this byte
};

}  // namespace lorashard::core
