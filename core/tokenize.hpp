// Text, prompt||completion lines, or JSON lines become a token file (dataset.hpp says what is in it).
#pragma once

#include <string>

#include "core/digest.hpp"
#include "kernels/view.hpp"

namespace lorashard::core {

enum class TextFormat { automatic, text, pairs, json };  // automatic: by the name's ending and the first line

struct TokenizeJob {
  std::string from, to;
  TextFormat format = TextFormat::automatic;
  std::string vocab;             // directory of GPT-2's files; empty: bytes
  kernels::Index vocab_size = 0;  // JSON lines: ids must be below it; 0: largest id + 1
};

struct TokenizeReport {
  kernels::Index documents = 0, tokens = 0, scored = 0, vocab = 0;
  kernels::Index longest = 0;  // tokens of the longest document
  std::string kind, tokenizer;
};

// Bad input is one line naming file, line number, field, found and expected; nothing is left behind.
TokenizeReport tokenize_file(const TokenizeJob& job);

}  // namespace lorashard::core
