// Rows of prompts and of conversations: what the tokens say, and which are learned (shown in [ ]).
#include <gtest/gtest.h>

#include "core/chat.hpp"
#include "core/token_file.hpp"
#include "core/tokenize.hpp"
#include "tests/core/expect_refused.hpp"
#include "tests/core/made_tokenizer.hpp"
#include "tests/core/shared_directory.hpp"

namespace lorashard::core {
namespace {

using kernels::Failure;

// The tokens' text with the scored ones in brackets, documents one a line.
std::string shown(const TokenFile& file, const Tokenizer& tokenizer) {
  std::string text;
  for (std::size_t d = 0; d + 1 < file.offsets.size(); ++d, text += "\n") {
    bool open = false;
    std::vector<std::int32_t> run;
    const auto flush = [&] { text += tokenizer.decode(std::exchange(run, {}), true); };
    for (auto i = static_cast<std::size_t>(file.offsets[d]); i < static_cast<std::size_t>(file.offsets[d + 1]); ++i) {
      const bool scored = file.label(i) != kUnscored;
      if (scored != open) flush(), text += scored ? "[" : "]";
      open = scored;
      run.push_back(file.tokens[i]);
    }
    flush();
    if (open) text += "]";
  }
  return text;
}

struct Rows {
  TemporaryDirectory directory;
  std::string from = directory / "rows.jsonl", to = directory / "out.h5", vocab, chat;

  explicit Rows(const std::string& lines, std::string vocab_path = "", std::string chat_format = "")
      : vocab(std::move(vocab_path)), chat(std::move(chat_format)) {
    put_bytes(from, lines);
  }
  TokenFile run() {
    tokenize_file({from, to, TextFormat::automatic, vocab, 0, chat});
    return read_token_file(to);
  }
  std::string text() {
    const TokenFile file = run();
    return shown(file, *(vocab.empty() ? make_byte_tokenizer() : make_tokenizer(vocab)));
  }
};

const std::string kTalk = R"({"messages": [{"role": "system", "content": "Be."}, {"role": "user", "content": " Hi"},)"
                          R"( {"role": "assistant", "content": "Yes"}, {"role": "user", "content": "a<|im_end|>"},)"
                          R"( {"role": "assistant", "content": "No\n"}]})"
                          "\n";

TEST(TokenizeRows, PromptsAndCompletions) {
  Rows rows(
      "{\"prompt\": \"ab \", \"completion\": \"cd\"}\n{\"completion\": \"e\", \"prompt\": \"f\", \"other\": 1}\n");
  const TokenFile file = rows.run();
  const int no = kUnscored;
  EXPECT_EQ(file.tokens, (std::vector<std::int32_t>{'a', 'b', ' ', 'c', 'd', 256, 'f', 'e', 256}));
  EXPECT_EQ(file.labels, (std::vector<std::int32_t>{no, no, no, 'c', 'd', 256, no, 'e', 256}));
  EXPECT_EQ(file.tokenizer_digest, "");
}

TEST(TokenizeRows, PlainChat) {
  EXPECT_EQ(Rows(kTalk, "", "plain").text(),
            "Be.\n Hi\n[Yes]a<|im_end|>\n[No\n]\n");  // the end of a text shows nothing
}

TEST(TokenizeRows, ChatMl) {
  const std::string vocab = shared_path("vocab/made/qwen_style");
  if (vocab.empty()) GTEST_SKIP() << "vocab/" << kNoShared;
  Rows rows(kTalk, vocab, "chatml");
  const TokenFile file = rows.run();
  EXPECT_EQ(
      shown(file, *make_tokenizer(vocab)),
      "<|im_start|>system\nBe.<|im_end|>\n<|im_start|>user\n Hi<|im_end|>\n<|im_start|>assistant\n[Yes<|im_end|>]\n"
      "<|im_start|>user\na<|im_end|><|im_end|>\n<|im_start|>assistant\n[No\n<|im_end|>]\n\n");
  // One marker a message, and none of a text's making.
  EXPECT_EQ(std::count(file.tokens.begin(), file.tokens.end(), 2), 5);
  EXPECT_EQ(file.tokenizer, "qwen_style");
  EXPECT_EQ(file.tokenizer_digest, make_tokenizer(vocab)->digest());
}

TEST(TokenizeRows, Llama2Chat) {
  const std::string vocab = shared_path("vocab/made/llama2_style");
  if (vocab.empty()) GTEST_SKIP() << "vocab/" << kNoShared;
  Rows rows(kTalk, vocab, "llama2");
  const auto tokenizer = make_tokenizer(vocab);
  const TokenFile file = rows.run();
  // The ids are those of the whole text of a turn: an answer goes on from its prompt, no second space before it.
  const Encoding all{.specials = true};
  auto expected = tokenizer->encode("<s>[INST] <<SYS>>\nBe.\n<</SYS>>\n\n Hi [/INST] Yes </s>", all);
  const auto second = tokenizer->encode("<s>[INST] a<|im_end|> [/INST] No </s>", all);
  expected.insert(expected.end(), second.begin(), second.end());
  EXPECT_EQ(file.tokens, expected);
  std::vector<std::int32_t> learned;
  for (const std::int32_t label : file.labels)
    if (label != kUnscored) learned.push_back(label);
  EXPECT_EQ(tokenizer->decode(learned, true), "Yes </s> No </s>");
  Rows pair("{\"prompt\": \"In the\", \"completion\": \" beginning\"}", vocab);
  const auto whole = tokenizer->encode("In the beginning</s>", {.specials = true, .frame = true});
  EXPECT_EQ(pair.run().tokens, whole);
}

TEST(TokenizeRows, Llama3Chat) {
  MadeTokenizer made;
  const std::initializer_list<const char*> names{"<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
                                                 "<|eot_id|>"};
  int id = 9;
  for (const char* name : names) made.add(name, id++, true);
  made.model()["vocab"].get_object().erase("A");
  for (char c = '!'; c <= '~'; ++c)
    if (std::string("abc").find(c) == std::string::npos) made.model()["vocab"].get_object()[std::string(1, c)] = id++;
  made.model()["vocab"].get_object()["\n"] = id;
  put_bytes(made.directory / "tokenizer_config.json",
            R"({"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "chat_template": [
               {"name": "tools", "template": "<|im_start|>"},
               {"name": "default", "template": "x<|start_header_id|>y"}]})");
  made.make();
  EXPECT_EQ(Rows(kTalk, made.path()).text(),  // recognised by its template
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n[Yes<|eot_id|>]"
            "<|start_header_id|>user<|end_header_id|>\n\na<|im_end|><|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n[No<|eot_id|>]\n");
  put_bytes(made.directory / "tokenizer_config.json", R"({"eos_token": "<|eot_id|>", "chat_template": "{{ loop }}"})");
  expect_refused([&] { Rows(kTalk, made.path()).run(); }, Failure::configuration,
                 {"tokenizer_config.json: chat_template: found an unknown one", "--chat"});
  expect_refused([&] { Rows(kTalk, made.path(), "llama3").run(); }, Failure::configuration, {":1: ", "begins a text"});
}

TEST(TokenizeRows, BadRowsAreRefused) {
  const auto refused = [](const std::string& lines, const std::string& chat, std::initializer_list<std::string> words) {
    Rows rows(lines, "", chat);
    expect_refused([&] { rows.run(); }, Failure::configuration, words);
    EXPECT_EQ(rows.directory.entries(), 1u);
  };
  const std::string prompt = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
  refused(prompt + "{\"prompt\": \"a\"}", "", {":2: 'completion': found nothing, expected text"});
  refused(prompt + "{\"prompt\": \"\", \"completion\": \"b\"}", "", {":2: 'prompt': found '', expected text"});
  refused(prompt + "{\"prompt\": [1], \"completion\": \"b\"}", "", {":2: 'prompt': found an array"});
  refused(prompt + "{", "", {":2: ", "JSON"});
  refused(prompt, "chatml", {"--chat: found 'chatml'", "messages"});
  const auto talk = [](const std::string& messages) { return "{\"messages\": " + messages + "}\n"; };
  const std::string good = talk(R"([{"role": "assistant", "content": "b"}])");
  refused(good, "", {"tokenizer_config.json: chat_template: found none", "--chat"});
  refused(good, "vicuna", {"--chat: found 'vicuna', expected one of chatml"});
  refused(good, "chatml", {":1: ", "tokenizer byte has no token <|im_start|>"});
  refused(good, "llama2", {":1: messages[0]: role: found 'assistant', expected user"});
  refused(good + talk("[]"), "plain", {":2: 'messages': found an array"});
  refused(good + talk("[1]"), "plain", {":2: messages[0]: found 1"});
  refused(good + talk(R"([{"role": "user", "content": "b"}])"), "plain", {":2: messages: found no answer"});
  refused(good + talk(R"([{"role": "tool", "content": "b"}])"), "plain", {":2: messages[0]: role: found 'tool'"});
  refused(good + talk(R"([{"role": "assistant", "content": null}])"), "plain", {":2: messages[0]: 'content'"});
  refused(good + talk(R"([{"role": "assistant", "content": [{"type": "text"}]}])"), "plain",
          {":2: messages[0]: 'content'"});
  Rows sized(good, "", "plain");
  expect_refused(
      [&] {
        tokenize_file({sized.from, sized.to, TextFormat::json, "", 5, "plain"});
      },
      Failure::configuration, {"vocab size: found 5"});
}

}  // namespace
}  // namespace lorashard::core
