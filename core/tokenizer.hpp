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
  virtual std::vector<std::int32_t> encode(std::string_view utf8) const = 0;
  virtual std::string decode(const std::vector<std::int32_t>& ids) const = 0;
  virtual kernels::Index vocab() const = 0;
  virtual std::int32_t end_of_text() const = 0;  // put between documents and after a completion
  virtual const std::string& name() const = 0;   // "byte", "gpt2": goes into the token file
};

// One id per byte, 256 is the end of a text: vocabulary 257.
std::unique_ptr<Tokenizer> make_byte_tokenizer();
// GPT-2's byte-pair encoding from a directory with encoder.json and vocab.bpe (or vocab.json and merges.txt).
std::unique_ptr<Tokenizer> make_gpt2_tokenizer(const std::string& directory);

}  // namespace lorashard::core
