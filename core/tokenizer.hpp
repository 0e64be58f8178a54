// Text to token ids and back.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/view.hpp"

namespace lorashard::core {

struct Encoding {
  // Special tokens written in the text ("<|endoftext|>") are those tokens. Otherwise they are ordinary text, so that
  // data cannot end a document or begin another speaker's turn.
  bool specials = false;
  bool frame = false;      // put the tokens of Tokenizer::frame() around it
  bool continues = false;  // the text goes on from another: a tokenizer that puts a space in front of one does not
};

// What a model expects around a text: the beginning-of-text token, mostly.
struct Frame {
  std::vector<std::int32_t> front, back;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // Where the tokenizer needs UTF-8, invalid text throws Failure::configuration with the offset of the first wrong
  // byte.
  std::vector<std::int32_t> encode(std::string_view utf8, const Encoding& how = {}) const;
  // The bytes of the tokens; special ones (the end of a text) have none unless `specials` asks for their names. A
  // single token may be a part of a character, so only the bytes of a whole text are UTF-8. An id outside of the
  // vocabulary throws Failure::configuration.
  std::string decode(const std::vector<std::int32_t>& ids, bool specials = false) const;

  virtual kernels::Index vocab() const = 0;  // ids are below it
  // The id of a token by its name, "<|im_end|>" or a part of a word as the vocabulary writes it.
  virtual std::optional<std::int32_t> find(std::string_view token) const = 0;
  // Put between documents and after a completion. Throws Failure::configuration where the files do not tell it.
  virtual std::int32_t end_of_text() const = 0;
  // All tokens after which a completion is over: end_of_text(), and those that a model's files name beside it (Llama
  // 3's chat models end an answer, and a text, each by its own). Never empty; throws as end_of_text().
  virtual std::vector<std::int32_t> ends_of_text() const { return {end_of_text()}; }
  virtual std::optional<std::int32_t> beginning_of_text() const { return std::nullopt; }
  virtual const Frame& frame() const;           // empty unless overridden
  virtual const std::string& name() const = 0;  // "byte", "gpt2": goes into the token file
  // Of the vocabulary's file or files, 32 hexadecimal digits; empty when there is none. Goes into the token file too.
  virtual std::string digest() const { return ""; }

  // How far a decoding has come; StreamDecoder keeps it.
  struct Decoded {
    kernels::Index tokens = 0;    // that had a text
    std::int32_t before = -1;     // the token before, special ones as well
    kernels::Index stripped = 0;  // characters taken from the front
    bool text = false;            // some bytes were given
  };

 protected:
  friend class StreamDecoder;
  virtual void append_ids(std::string_view utf8, const Encoding& how, std::vector<std::int32_t>& ids) const = 0;
  virtual std::string bytes_of(std::int32_t id, bool specials, Decoded& so_far) const = 0;
};

// Decodes while tokens are made: the texts given, one after the other, are decode() of all tokens, and none ends within
// a character. Bytes that are no UTF-8 are given as they are.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool specials = false)
      : tokenizer_(tokenizer), specials_(specials) {}
  std::string next(std::int32_t id);
  std::string finish();  // what is left: the begin of a character that did not come

 private:
  const Tokenizer& tokenizer_;
  bool specials_;
  Tokenizer::Decoded so_far_;
  std::string held_;  // at most three bytes
};

// Throws Failure::configuration when `id` is not a token of this tokenizer.
void check_token_id(const Tokenizer& tokenizer, std::int32_t id);
// Throws Failure::configuration with the offset of the first byte that is no UTF-8.
void expect_utf8(std::string_view text);

// Whatever `path` is: a directory with a tokenizer.json or with GPT-2's two files, a tokenizer.json, or a file of
// llama2.c. Throws Failure::configuration naming the file, the field, what was found and what was expected.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& path);

// One id per byte, 256 is the end of a text: vocabulary 257.
std::unique_ptr<Tokenizer> make_byte_tokenizer();
// GPT-2's byte-pair encoding from a directory with encoder.json and vocab.bpe (or vocab.json and merges.txt).
std::unique_ptr<Tokenizer> make_gpt2_tokenizer(const std::string& directory);
// Hugging Face's format, model "BPE". Files beside it (tokenizer_config.json, special_tokens_map.json,
// generation_config.json, config.json) say which tokens begin and end a text.
std::unique_ptr<Tokenizer> make_json_tokenizer(const std::string& path);
// llama2.c's tokenizer.bin: int32 longest token, then for each token float score, int32 length, bytes.
std::unique_ptr<Tokenizer> make_llama2c_tokenizer(const std::string& path);

}  // namespace lorashard::core
