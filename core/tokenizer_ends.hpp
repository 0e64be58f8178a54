// What a tokenizer's files say about the tokens around a text.
#pragma once

#include <boost/json/value.hpp>
#include <functional>
#include <optional>
#include <string>

#include "core/tokenizer.hpp"

namespace lorashard::core {

using FindToken = std::function<std::optional<std::int32_t>(const std::string&)>;

// The value of "post_processor": TemplateProcessing's tokens around one text, ByteLevel (none) and Sequence; anything
// else, or a token that `find` does not know, throws Failure::configuration "<where>: ...".
Frame read_frame(const boost::json::value* description, const std::string& where, const FindToken& find);

struct TextEnds {
  std::optional<std::int32_t> beginning, end;
  std::vector<std::int32_t> model_ends;  // "eos_token_id" of the model: one or several
};

// From tokenizer_config.json, special_tokens_map.json and generation_config.json of a directory, the first that tells;
// the model's ends from generation_config.json, or else config.json, and the first of them where the tokenizer's files
// name no end. Where none does, the end is the one token of the names that public models use, if there is exactly one.
// A token that `find` does not know throws Failure::configuration.
TextEnds read_text_ends(const std::string& directory, const FindToken& find);

}  // namespace lorashard::core
