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
};

// From tokenizer_config.json, special_tokens_map.json and generation_config.json of a directory, the first that tells;
// where none does, the end is the one token of the names that public models use, if there is exactly one. A token that
// `find` does not know throws Failure::configuration.
TextEnds read_text_ends(const std::string& directory, const FindToken& find);

}  // namespace lorashard::core
