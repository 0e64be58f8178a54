#include "core/chat.hpp"

#include <algorithm>
#include <filesystem>

#include "core/json_file.hpp"
#include "core/quote.hpp"

namespace lorashard::core {
namespace {

using kernels::text;

template <class... Parts>
[[noreturn]] void refuse(const std::string& where, const Parts&... parts) {
  kernels::fail(kernels::Failure::configuration, text(where, ": ", parts...));
}

std::string trimmed(const std::string& content) {
  constexpr const char* kBlank = " \t\n\v\f\r";
  const std::size_t first = content.find_first_not_of(kBlank);
  return first == content.npos ? "" : content.substr(first, content.find_last_not_of(kBlank) - first + 1);
}

// Collects text until a marker or a change between scored and unscored, so that neighbours are encoded as one.
class Writer {
 public:
  Writer(const Tokenizer& tokenizer, const std::string& where) : tokenizer_(tokenizer), where_(where) {}

  void write(const std::string& more, bool scored = false) {
    if (scored != scored_) flush();
    scored_ = scored;
    text_ += more;
  }
  void mark(std::int32_t id, bool scored = false) {
    flush();
    result_.add(id, scored);
    continues_ = false;  // the reference begins anew behind a marker
  }
  void mark(const char* name, bool scored = false) {
    const auto id = tokenizer_.find(name);
    if (!id) refuse(where_, "tokenizer ", tokenizer_.name(), " has no token ", name, ", expected the chat format's");
    mark(*id, scored);
  }
  void begin() {
    const auto id = tokenizer_.beginning_of_text();
    if (!id)
      refuse(where_, "tokenizer ", tokenizer_.name(), " has no token that begins a text, which this chat format has");
    mark(*id);
  }
  void frame() {
    for (const std::int32_t id : tokenizer_.frame().front) mark(id);
  }
  void end() { mark(tokenizer_.end_of_text(), true); }
  ScoredIds finish() {
    flush();
    return std::move(result_);
  }

 private:
  void flush() {
    if (text_.empty()) return;
    result_.add(encoded(tokenizer_, text_, where_, continues_), scored_);
    continues_ = true;
    text_.clear();
  }

  const Tokenizer& tokenizer_;
  const std::string& where_;
  ScoredIds result_;
  std::string text_;
  bool scored_ = false, continues_ = false;
};

void write_chatml(const std::vector<Message>& messages, Writer& to) {
  to.frame();
  for (const Message& message : messages) {
    const bool answer = message.role == "assistant";
    to.mark("<|im_start|>");
    to.write(message.role + "\n");
    to.write(message.content, answer);
    to.mark("<|im_end|>", answer);
    to.write("\n");
  }
}

void write_llama3(const std::vector<Message>& messages, Writer& to) {
  to.begin();
  for (const Message& message : messages) {
    const bool answer = message.role == "assistant";
    to.mark("<|start_header_id|>");
    to.write(message.role);
    to.mark("<|end_header_id|>");
    to.write("\n\n");
    to.write(trimmed(message.content), answer);
    to.mark("<|eot_id|>", answer);
  }
}

void write_llama2(const std::vector<Message>& messages, const std::string& where, Writer& to) {
  std::string system;
  std::size_t first = 0;
  if (messages[0].role == "system") {
    system = "<<SYS>>\n" + messages[0].content + "\n<</SYS>>\n\n";
    first = 1;
  }
  for (std::size_t i = first; i < messages.size(); ++i) {
    const bool answer = (i - first) % 2 == 1;
    if (messages[i].role != (answer ? "assistant" : "user"))
      refuse(where, "messages[", i, "]: role: found ", in_quotes(messages[i].role), ", expected ",
             answer ? "assistant" : "user", ": this format has the two by turns");
    if (answer) {
      to.write(" " + trimmed(messages[i].content) + " ", true);
      to.end();
    } else {
      to.begin();
      to.write("[INST] " + trimmed(system + messages[i].content) + " [/INST]");
      system.clear();
    }
  }
}

void write_plain(const std::vector<Message>& messages, Writer& to) {
  to.frame();
  for (const Message& message : messages) {
    const bool answer = message.role == "assistant";
    to.write(message.content + (answer ? "" : "\n"), answer);
    if (answer) to.end();
  }
}

// The template's text: a string, or the one called "default" among several.
std::string template_of(const std::string& path) {
  std::error_code none;
  if (!std::filesystem::exists(path, none)) return "";
  const boost::json::object content = read_json_object(path);
  const JsonFields fields{content, path};
  const boost::json::value* found = fields.find("chat_template");
  if (found && found->is_array())
    for (const boost::json::value& entry : found->get_array()) {
      if (!entry.is_object()) fields.refuse("chat_template", "text, or objects with name and template");
      const JsonFields one{entry.get_object(), path};
      if (one.text("name") == "default") return one.text("template");
    }
  return found && found->is_string() ? std::string(found->get_string()) : "";
}

}  // namespace

ChatFormat chat_format(const std::string& word, const std::string& where) {
  if (word == "chatml") return ChatFormat::chatml;
  if (word == "llama2") return ChatFormat::llama2;
  if (word == "llama3") return ChatFormat::llama3;
  if (word == "plain") return ChatFormat::plain;
  refuse(where, "found ", in_quotes(word), ", expected one of chatml, llama2, llama3, plain");
}

ChatFormat recognised_chat_format(const std::string& tokenizer_path) {
  std::error_code none;
  std::filesystem::path folder(tokenizer_path);
  if (!std::filesystem::is_directory(folder, none)) folder = folder.parent_path();
  const std::string path = (folder / "tokenizer_config.json").string();
  const std::string source = template_of(path);
  const auto has = [&](const char* marker) { return source.find(marker) != source.npos; };
  if (has("<|im_start|>")) return ChatFormat::chatml;
  if (has("<|start_header_id|>")) return ChatFormat::llama3;
  if (has("[INST]") && has("<<SYS>>")) return ChatFormat::llama2;
  refuse(path, "chat_template: found ", source.empty() ? "none" : "an unknown one",
         ", expected chatml's, llama2's or llama3's, or --chat to choose one of them or plain");
}

ScoredIds scored_chat(ChatFormat format, const Tokenizer& tokenizer, const std::vector<Message>& messages,
                      const std::string& where) {
  for (std::size_t i = 0; i < messages.size(); ++i)
    if (const std::string& role = messages[i].role; role != "system" && role != "user" && role != "assistant")
      refuse(where, "messages[", i, "]: role: found ", in_quotes(role), ", expected system, user or assistant");
  if (std::none_of(messages.begin(), messages.end(), [](const Message& m) { return m.role == "assistant"; }))
    refuse(where, "messages: found no answer to learn, expected a message of the role assistant");
  Writer to(tokenizer, where);
  switch (format) {
    case ChatFormat::chatml:
      write_chatml(messages, to);
      break;
    case ChatFormat::llama2:
      write_llama2(messages, where, to);
      break;
    case ChatFormat::llama3:
      write_llama3(messages, to);
      break;
    case ChatFormat::plain:
      write_plain(messages, to);
      break;
  }
  return to.finish();
}

}  // namespace lorashard::core
