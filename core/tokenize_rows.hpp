// JSON lines of text for `tokenize`: what is asked, and the answers to learn.
#pragma once

#include <string>

#include "core/scored_ids.hpp"
#include "core/tokenize.hpp"

namespace lorashard::core {

// "<prompt><completion><end of text>" as a document: the tokens that the tokenizer puts in front of a text, both parts
// (each encoded by itself, as generation has them), the end. The completion and the end are scored.
ScoredIds scored_pair(const Tokenizer& tokenizer, std::string_view prompt, std::string_view completion,
                      const std::string& where);

enum class RowKind { ids, prompts, messages };
// By the fields of the file's first line: input_ids, prompt or messages; ids where it has none of them.
RowKind row_kind(const std::string& path);

// Appends a document for every line {"prompt": text, "completion": text} or {"messages": [{"role", "content"}, ...]}.
// Bad lines throw Failure::configuration "<file>:<line>: ...".
void read_prompts(const std::string& path, const Tokenizer& tokenizer, TokenFile& to);
void read_messages(const TokenizeJob& job, const Tokenizer& tokenizer, TokenFile& to);

void append(const ScoredIds& document, TokenFile& to);

}  // namespace lorashard::core
