// A byte-pair tokenizer put together from its parts: text -> added tokens -> normalizer -> pieces -> ids.
#pragma once

#include <string>
#include <vector>

#include "core/added_tokens.hpp"
#include "core/bpe_model.hpp"
#include "core/pre_tokenizer.hpp"
#include "core/text_normalizer.hpp"
#include "core/token_decoder.hpp"
#include "core/tokenizer.hpp"

namespace lorashard::core {

// Ids of public tokenizers are below 262,144 so far; it bounds what a hostile file can ask for.
inline constexpr std::int64_t kMostTokenIds = 1 << 20;

// What stands beside the model itself, each as a tokenizer.json has it.
struct BpeTokenizerParts {
  std::string name, digest;
  std::string path;  // of messages
  BpeParts model;
  std::vector<AddedToken> added;  // content, id and flags
  TextNormalizer normalizer;
  PreTokenizer pre_tokenizer;
  TokenDecoder decoder;
  Frame frame;
  std::optional<std::int32_t> beginning, end;
  std::vector<std::int32_t> model_ends = {};  // more that end a completion
};

std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeTokenizerParts parts);

}  // namespace lorashard::core
