#include "core/tokenize_rows.hpp"

#include "core/chat.hpp"
#include "core/json_file.hpp"
#include "core/text_file.hpp"

namespace lorashard::core {
namespace {

using boost::json::value;

template <class Take>
void each_line(const std::string& path, const Take& take) {
  LineReader lines(path);
  for (std::string line; lines.next(line);) {
    const std::string where = lines.where();
    const boost::json::object object = parse_json_object(line, where);
    take(JsonFields{object, where});
  }
}

std::string some_text(const JsonFields& fields, const char* key) {
  std::string found = fields.text(key);
  if (found.empty()) fields.refuse(key, "text that is not empty");
  return found;
}

std::vector<Message> messages_of(const JsonFields& fields) {
  const value* found = fields.find("messages");
  if (!found || !found->is_array() || found->get_array().empty())
    fields.refuse("messages", "an array of objects with role and content");
  std::vector<Message> messages;
  for (const value& entry : found->get_array()) {
    const std::string where = kernels::text(fields.path, ": messages[", messages.size(), "]");
    if (!entry.is_object())
      kernels::fail(kernels::Failure::configuration,
                    kernels::text(where, ": found ", shown(&entry), ", expected an object with role and content"));
    const JsonFields message{entry.get_object(), where};
    messages.push_back({message.text("role"), some_text(message, "content")});
  }
  return messages;
}

}  // namespace

void append(const ScoredIds& document, TokenFile& to) {
  to.tokens.insert(to.tokens.end(), document.ids.begin(), document.ids.end());
  to.labels.insert(to.labels.end(), document.labels.begin(), document.labels.end());
  to.offsets.push_back(static_cast<std::int64_t>(to.tokens.size()));
}

ScoredIds scored_pair(const Tokenizer& tokenizer, std::string_view prompt, std::string_view completion,
                      const std::string& where) {
  ScoredIds document;
  document.add(tokenizer.frame().front, false);
  document.add(encoded(tokenizer, prompt, where + ": prompt"), false);
  document.add(encoded(tokenizer, completion, where + ": completion", true), true);
  document.add(tokenizer.end_of_text(), true);
  return document;
}

RowKind row_kind(const std::string& path) {
  std::string line;
  LineReader lines(path);
  if (!lines.next(line)) return RowKind::ids;
  const boost::json::object first = parse_json_object(line, lines.where());
  if (first.contains("input_ids")) return RowKind::ids;
  if (first.contains("messages")) return RowKind::messages;
  return first.contains("prompt") ? RowKind::prompts : RowKind::ids;
}

void read_prompts(const std::string& path, const Tokenizer& tokenizer, TokenFile& to) {
  each_line(path, [&](const JsonFields& fields) {
    const std::string prompt = some_text(fields, "prompt"), completion = some_text(fields, "completion");
    append(scored_pair(tokenizer, prompt, completion, fields.path), to);
  });
}

void read_messages(const TokenizeJob& job, const Tokenizer& tokenizer, TokenFile& to) {
  const ChatFormat format = job.chat.empty() ? recognised_chat_format(job.vocab) : chat_format(job.chat, "--chat");
  each_line(job.from, [&](const JsonFields& fields) {
    append(scored_chat(format, tokenizer, messages_of(fields), fields.path), to);
  });
}

}  // namespace lorashard::core
