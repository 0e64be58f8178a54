// Text to token ids and back.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/view.hpp"

namespace lorashard::core {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // The text alone: "<|endoftext|>" inside it is ordinary text, so that data cannot end a document. Where the tokenizer
  // needs UTF-8, invalid text throws Failure::configuration with the offset of the first wrong byte.
  virtual std::vector<std::int32_t> encode(std::string_view utf8) const = 0;
  // The bytes of the tokens; the end of a text has none. A single token may be a part of a character, so only the bytes
  // of a whole text are UTF-8. An id outside of the vocabulary throws Failure::configuration.
  virtual std::string decode(const std::vector<std::int32_t>& ids) const = 0;
  virtual kernels::Index vocab() const = 0;
  virtual std::int32_t end_of_text() const = 0;  // put between documents and after a completion
  virtual const std::string& name() const = 0;   // "byte", "gpt2": goes into the token file
};

// Throws Failure::configuration when `id` is not a token of this tokenizer.
void check_token_id(const Tokenizer& tokenizer, std::int32_t id);

// One id per byte, 256 is the end of a text: vocabulary 257.
std::unique_ptr<Tokenizer> make_byte_tokenizer();
// GPT-2's byte-pair encoding from a directory with encoder.json and vocab.bpe (or vocab.json and merges.txt).
std::unique_ptr<Tokenizer> make_gpt2_tokenizer(const std::string& directory);

}  // namespace lorashard::core
