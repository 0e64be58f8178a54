// Text, prompt||completion lines, or JSON lines become a token file (dataset.hpp says what is in it).
//
// text: the file is one document with the end of a text behind it; kind "text".
// pairs: a line is one document "<prompt> <completion><end of text>", blanks around both parts removed; the completion,
//   from its space on, and the end of the text are scored; kind "rows".
// json: a line is one document, kind "rows", of what the file's first line shows:
//   {"input_ids": [...], "labels": [...]}: labels[i] says whether and as what token i is to be predicted (-100: not at
//   all), as Hugging Face has it; without labels every token is scored.
//   {"prompt": text, "completion": text}: one after the other as they are; the completion and the end are scored.
//   {"messages": [{"role": ..., "content": ...}, ...]}: a conversation in a format of chat.hpp; the answers are scored.
// Tokens that the tokenizer puts in front of a text (<s>) begin every document of text.
#pragma once

#include <string>

#include "core/digest.hpp"
#include "kernels/view.hpp"

namespace lorashard::core {

enum class TextFormat { automatic, text, pairs, json };  // automatic: by the name's ending and the first line

struct TokenizeJob {
  std::string from, to;
  TextFormat format = TextFormat::automatic;
  std::string vocab;              // what make_tokenizer reads; empty: bytes, or ids of a tokenizer we do not know
  kernels::Index vocab_size = 0;  // JSON lines: ids must be below it; 0: the tokenizer's, or largest id + 1
  std::string chat{};             // chatml, llama2, llama3 or plain; empty: as the tokenizer's files have it
};

struct TokenizeReport {
  kernels::Index documents = 0, tokens = 0, vocab = 0;
  kernels::Index scored = 0;   // tokens to be predicted; the first of a document never is
  kernels::Index longest = 0;  // tokens of the longest document
  std::string kind, tokenizer;
};

// Bad input is Failure::configuration, one line naming file, line number, field, found and expected. The token file
// appears under its name when it is whole; a failure leaves nothing behind.
TokenizeReport tokenize_file(const TokenizeJob& job);

}  // namespace lorashard::core
