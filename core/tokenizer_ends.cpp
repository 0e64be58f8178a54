#include "core/tokenizer_ends.hpp"

#include <filesystem>

#include "core/bpe_tokenizer.hpp"
#include "core/described.hpp"
#include "core/quote.hpp"

namespace lorashard::core {
namespace {

using boost::json::value;
using kernels::fail;
using kernels::Failure;
using kernels::text;

// The ids behind a name of the template: its own table "special_tokens" has them.
std::vector<std::int32_t> special_ids(const Described& step, const std::string& name, const FindToken& find) {
  const value* table = step.fields().find("special_tokens");
  const value* entry = table && table->is_object() ? table->get_object().if_contains(name) : nullptr;
  if (!entry || !entry->is_object()) step.fields().refuse("special_tokens", text("an entry ", in_quotes(name)));
  const std::string where = step.where() + ".special_tokens." + name;
  const JsonFields fields{entry->get_object(), where};
  const value* tokens = fields.find("tokens");
  if (!tokens || !tokens->is_array()) fields.refuse("tokens", "an array of tokens");
  std::vector<std::int32_t> ids;
  for (const value& token : tokens->get_array()) {
    const auto id = token.is_string() ? find(std::string(token.get_string())) : std::nullopt;
    if (!id) fail(Failure::configuration, text(where, ": tokens: found ", shown(&token), ", expected a known token"));
    ids.push_back(*id);
  }
  return ids;
}

void add_template(const Described& step, Frame& frame, const FindToken& find) {
  const value* single = step.fields().find("single");
  if (!single || !single->is_array()) step.fields().refuse("single", "an array");
  bool behind = false;
  for (const value& entry : single->get_array()) {
    const auto* object = entry.if_object();
    const value* sequence = object ? object->if_contains("Sequence") : nullptr;
    const value* special = object ? object->if_contains("SpecialToken") : nullptr;
    if (sequence && !behind) {
      behind = true;
    } else if (special && special->is_object()) {
      const std::string where = step.where() + ".single";
      const auto ids = special_ids(step, JsonFields{special->get_object(), where}.text("id"), find);
      auto& side = behind ? frame.back : frame.front;
      side.insert(side.end(), ids.begin(), ids.end());
    } else {
      step.fields().refuse("single", "special tokens around one Sequence");
    }
  }
  if (!behind) step.fields().refuse("single", "a Sequence");
}

void add_frame(const value& description, const std::string& where, Frame& frame, const FindToken& find) {
  const Described step(description, where);
  if (step.type() == "Sequence")
    step.each("processors", [&](const auto& one, const std::string& at) { add_frame(one, at, frame, find); });
  else if (step.type() == "TemplateProcessing")
    add_template(step, frame, find);
  else if (step.type() != "ByteLevel")  // that one is about offsets
    step.refuse_type("TemplateProcessing, ByteLevel or Sequence");
}

// "eos_token": "</s>" or {"content": "</s>", ...}; nothing when absent.
std::optional<std::int32_t> named(const JsonFields& fields, const char* key, const FindToken& find) {
  const value* found = fields.find(key);
  if (!found) return std::nullopt;
  const value* content = found->is_object() ? found->get_object().if_contains("content") : found;
  const auto id = content && content->is_string() ? find(std::string(content->get_string())) : std::nullopt;
  if (!id)
    fail(Failure::configuration,
         text(fields.path, ": ", key, ": found ", shown(content), ", expected a token of the tokenizer"));
  return id;
}

// "eos_token_id": 2, or [2, 5].
std::vector<std::int32_t> numbered(const JsonFields& fields, const char* key) {
  const std::vector<std::int64_t> ids = fields.integers(key, 0, kMostTokenIds - 1, "a token's id, or several");
  return {ids.begin(), ids.end()};
}

}  // namespace

Frame read_frame(const value* description, const std::string& where, const FindToken& find) {
  Frame frame;
  if (description && !description->is_null()) add_frame(*description, where, frame, find);
  return frame;
}

TextEnds read_text_ends(const std::string& directory, const FindToken& find) {
  TextEnds ends;
  const std::string folder = directory.empty() ? "." : directory;
  const auto read = [&](const char* name, const auto& take) {
    const std::string path = folder + "/" + name;
    std::error_code none;
    if (!std::filesystem::exists(path, none)) return;
    const boost::json::object content = read_json_object(path);
    take(JsonFields{content, path});
  };
  const auto by_name = [&](const JsonFields& fields) {
    if (!ends.end) ends.end = named(fields, "eos_token", find);
    if (!ends.beginning) ends.beginning = named(fields, "bos_token", find);
  };
  read("tokenizer_config.json", by_name);
  read("special_tokens_map.json", by_name);
  read("generation_config.json", [&](const JsonFields& fields) {
    ends.model_ends = numbered(fields, "eos_token_id");
    const std::vector<std::int32_t> beginnings = numbered(fields, "bos_token_id");
    if (!ends.beginning && !beginnings.empty()) ends.beginning = beginnings.front();
  });
  if (ends.model_ends.empty())
    read("config.json", [&](const JsonFields& fields) { ends.model_ends = numbered(fields, "eos_token_id"); });
  if (!ends.end && !ends.model_ends.empty()) ends.end = ends.model_ends.front();
  if (ends.end) return ends;
  for (const char* name : {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"}) {
    const auto id = find(name);
    if (!id) continue;
    if (ends.end) return {ends.beginning, std::nullopt, {}};  // one of several: a guess could be wrong
    ends.end = id;
  }
  return ends;
}

}  // namespace lorashard::core
