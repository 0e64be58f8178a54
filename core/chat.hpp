// Conversations as the well-known families of models write them; the answers are what is learned.
#pragma once

#include <string>
#include <vector>

#include "core/scored_ids.hpp"

namespace lorashard::core {

// chatml: <|im_start|>ROLE\nCONTENT<|im_end|>\n for every message (Qwen and many others).
// llama2: <s>[INST] CONTENT [/INST] ANSWER </s>, a system message in <<SYS>> inside of the first.
// llama3: <|begin_of_text|>, then <|start_header_id|>ROLE<|end_header_id|>\n\nCONTENT<|eot_id|> for every message.
// plain:  CONTENT\n, and the end of a text instead of the line's end behind an answer.
enum class ChatFormat { chatml, llama2, llama3, plain };

struct Message {
  std::string role, content;  // system, user or assistant
};

// Throws Failure::configuration "<where>: found ..." for another word.
ChatFormat chat_format(const std::string& word, const std::string& where);
// By the markers of the chat_template in the tokenizer_config.json beside a tokenizer. Throws Failure::configuration
// where there is none or an unknown one: a template is a program, and only what it is known to write is written here.
ChatFormat recognised_chat_format(const std::string& tokenizer_path);

// The tokens of a conversation. Scored: the answers and what ends each; an answer begins where generation would begin
// it. A marker that the tokenizer lacks, an unknown role, an order that the format cannot write and a conversation
// without an answer throw Failure::configuration "<where>: ...".
ScoredIds scored_chat(ChatFormat format, const Tokenizer& tokenizer, const std::vector<Message>& messages,
                      const std::string& where);

}  // namespace lorashard::core
