#include <gtest/gtest.h>

#include "tests/core/expect_refused.hpp"
#include "tests/core/made_tokenizer.hpp"
#include "tests/core/shared_directory.hpp"

namespace lorashard::core {
namespace {

using boost::json::array;
using boost::json::object;
using kernels::Failure;
using Ids = std::vector<std::int32_t>;
constexpr Encoding kSpecials{.specials = true};

TEST(TokenizerJson, UnknownTextAndWholePieces) {
  MadeTokenizer made;
  const auto plain = made.make();
  EXPECT_EQ(plain->encode("abc"), (Ids{5}));
  EXPECT_EQ(plain->encode("xxa"), (Ids{0, 0, 1}));
  EXPECT_EQ(plain->encode("xbx"), (Ids{0, 2, 0}));
  EXPECT_EQ(plain->encode("abcabx"), (Ids{5, 4, 0}));
  made.model()["fuse_unk"] = true;
  EXPECT_EQ(made.make()->encode("xxa"), (Ids{0, 1}));
  EXPECT_EQ(made.make()->encode("xyabxx"), (Ids{0, 4, 0}));
  std::string long_text;  // longer than what is remembered whole: cut where nothing can join
  for (int i = 0; i < 40; ++i) long_text += "xyabxx";
  Ids expected{0};
  for (int i = 0; i < 40; ++i) expected.insert(expected.end(), {4, 0});
  EXPECT_EQ(made.make()->encode(long_text), expected);
  made.model()["ignore_merges"] = true;
  made.model()["merges"] = {"b c"};
  EXPECT_EQ(made.make()->encode("abc"), (Ids{5}));
  EXPECT_EQ(made.make()->encode("abca"), (Ids{1, 7, 1}));
  made.model().erase("unk_token");
  expect_refused([&] { made.make()->encode("ax"); }, Failure::configuration, {"no token for 'x'"});
}

TEST(TokenizerJson, AddedTokens) {
  MadeTokenizer made;
  made.file()["normalizer"] = {{"type", "Lowercase"}};
  made.add("<m>", 9, true, {"lstrip", "rstrip"});
  made.add("<mm>", 10, true);
  made.add("ca", 11, false, {"single_word"});
  made.add("B", 12, false, {"normalized"});
  const auto t = made.make();
  EXPECT_EQ(t->encode("a <m> b", kSpecials), (Ids{1, 9, 12}));
  EXPECT_EQ(t->encode("a<mm>b", kSpecials), (Ids{1, 10, 12}));
  EXPECT_EQ(t->encode("a <m> <mm>", kSpecials), (Ids{1, 9, 10}));
  EXPECT_EQ(t->encode("ca aca ca", kSpecials), (Ids{11, 6, 1, 3, 1, 6, 11}));
  EXPECT_EQ(t->encode("Bab b", kSpecials), (Ids{12, 1, 12, 6, 12}));
  EXPECT_EQ(t->encode("cab", kSpecials), (Ids{3, 1, 12}));
  EXPECT_EQ(t->encode("A<m><m> a", kSpecials), (Ids{1, 9, 9, 1}));
  EXPECT_EQ(t->encode("ca\u0301", kSpecials), (Ids{3, 1, 0}));
  EXPECT_EQ(t->encode("a<m>b"), (Ids{1, 0, 0, 0, 12}));  // text, as encode_special_tokens of the reference
  EXPECT_EQ(t->encode("ca"), (Ids{11}));
  EXPECT_EQ(t->decode({1, 9, 12}), "aB");
  EXPECT_EQ(t->decode({1, 9, 12}, true), "a<m>B");
  EXPECT_EQ(t->find("<mm>"), 10);
  EXPECT_EQ(t->find("abc"), 5);
  EXPECT_EQ(t->find("abcd"), std::nullopt);
  EXPECT_EQ(t->vocab(), 13);
}

TEST(TokenizerJson, FramesAndEnds) {
  MadeTokenizer made;
  expect_refused([&] { made.make()->end_of_text(); }, Failure::configuration, {made.path(), "eos_token"});
  made.add("<s>", 9, true), made.add("</s>", 10, true), made.add("<end>", 11, true);
  const auto special = [](const char* name) { return object{{"SpecialToken", {{"id", name}, {"type_id", 0}}}}; };
  const auto entry = [](const char* name) { return object{{"id", name}, {"tokens", array{name}}}; };
  made.file()["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", array{special("<s>"), object{{"Sequence", {{"id", "A"}}}}, special("<end>")}},
      {"special_tokens", {{"<s>", entry("<s>")}, {"<end>", entry("<end>")}}}};
  const auto t = made.make();
  EXPECT_EQ(t->encode("ab", {.frame = true}), (Ids{9, 4, 11}));
  EXPECT_EQ(t->encode("ab"), (Ids{4}));
  EXPECT_EQ(t->beginning_of_text(), 9);
  EXPECT_EQ(t->end_of_text(), 10);  // a name that models use
  EXPECT_EQ(t->ends_of_text(), (Ids{10}));
  put_bytes(made.directory / "config.json", R"({"eos_token_id": 11, "bos_token_id": 11})");
  EXPECT_EQ(made.make()->end_of_text(), 11);
  EXPECT_EQ(made.make()->beginning_of_text(), 9);
  put_bytes(made.directory / "generation_config.json", R"({"eos_token_id": [2, 10]})");
  EXPECT_EQ(made.make()->end_of_text(), 2);
  EXPECT_EQ(made.make()->ends_of_text(), (Ids{2, 10}));
  put_bytes(made.directory / "special_tokens_map.json", R"({"eos_token": {"content": "<end>"}, "bos_token": "a"})");
  EXPECT_EQ(made.make()->end_of_text(), 11);
  EXPECT_EQ(made.make()->ends_of_text(), (Ids{2, 10, 11}));  // the model's, and the tokenizer's own
  EXPECT_EQ(made.make()->beginning_of_text(), 1);
  put_bytes(made.directory / "tokenizer_config.json", R"({"eos_token": "b", "bos_token": null})");
  EXPECT_EQ(made.make()->end_of_text(), 2);
  put_bytes(made.directory / "generation_config.json", R"({"eos_token_id": [2, "</s>"]})");
  expect_refused([&] { made.make(); }, Failure::configuration,
                 {"generation_config.json: 'eos_token_id': found an array"});
  put_bytes(made.directory / "tokenizer_config.json", R"({"eos_token": "<eos>"})");
  expect_refused([&] { made.make(); }, Failure::configuration, {"tokenizer_config.json: eos_token: found '<eos>'"});
}

TEST(TokenizerJson, BadFilesAreRefused) {
  const auto refused = [](const auto& spoil, std::initializer_list<std::string> words) {
    MadeTokenizer made;
    spoil(made);
    expect_refused([&] { made.make(); }, Failure::configuration, words);
    expect_refused([&] { made.make(); }, Failure::configuration, {made.path()});
  };
  using M = MadeTokenizer&;
  refused([](M m) { m.file().erase("model"); }, {"'model'", "found nothing"});
  refused([](M m) { m.model()["type"] = "Unigram"; }, {"model: 'type': found 'Unigram', expected BPE"});
  refused([](M m) { m.model()["vocab"] = array{}; }, {"'vocab'", "an array"});
  refused([](M m) { m.model().at("vocab").get_object()["z"] = 1 << 20; }, {"'z'", "1048576", "0 to 1048575"});
  refused([](M m) { m.model().at("vocab").get_object()["z"] = -1; }, {"'z'", "-1"});
  refused([](M m) { m.model().at("vocab").get_object()["z"] = 5; }, {"id 5 belongs to another token"});
  refused([](M m) { m.model()["merges"] = {"a x"}; }, {"merges[0]", "'x'", "not in the vocabulary"});
  refused([](M m) { m.model()["merges"] = {"b a"}; }, {"merges[0]", "'ba'", "not in the vocabulary"});
  refused([](M m) { m.model()["merges"] = {"a b", "a b"}; }, {"merges[1]", "'a b'", "second time"});
  refused([](M m) { m.model()["merges"] = {"a b c"}; }, {"merges[0]", "'a b c'", "two tokens"});
  refused([](M m) { m.model()["merges"] = array{array{"a"}}; }, {"merges[0]", "an array", "two tokens"});
  refused([](M m) { m.model()["merges"] = {"a "}; }, {"merges[0]", "two tokens"});
  refused([](M m) { m.model()["unk_token"] = "?"; }, {"'unk_token'", "'?'"});
  refused([](M m) { m.model()["dropout"] = 0.5; }, {"'dropout'", "found 5E-1"});
  refused([](M m) { m.model()["end_of_word_suffix"] = "</w>"; }, {"'end_of_word_suffix'", "'</w>'"});
  refused([](M m) { m.add("a", 9, true); }, {"added_tokens[0]", "found 9, expected 1"});
  refused([](M m) { m.add("z", 1, true); }, {"added_tokens[0]", "belongs to 'a'"});
  refused([](M m) { m.add("z", 9, true), m.add("z", 9, true); }, {"added_tokens[1]", "'z' for the second time"});
  refused([](M m) { m.add("", 9, true); }, {"added_tokens[0]", "'content'"});
  refused([](M m) { m.file()["post_processor"] = {{"type", "BertProcessing"}}; }, {"'BertProcessing'"});
  refused(
      [](M m) {
        m.file()["pre_tokenizer"] = {{"type", "ByteLevel"}}, m.model().erase("unk_token");
      },
      {"byte 0 has no token"});
  MadeTokenizer cut_off;
  put_bytes(cut_off.path(), boost::json::serialize(cut_off.json).substr(0, 200));
  expect_refused([&] { make_tokenizer(cut_off.path()); }, Failure::configuration, {cut_off.path(), "JSON"});
  expect_refused([&] { make_tokenizer(cut_off.directory / "none"); }, Failure::configuration, {"none"});
}

TEST(StreamDecoder, GivesWholeCharacters) {
  MadeTokenizer made;
  made.model()["byte_fallback"] = true;
  auto& vocab = made.model().at("vocab").get_object();
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    vocab[name] = 9 + byte;
  }
  made.file()["decoder"] = {
      {"type", "Sequence"},
      {"decoders", array{object{{"type", "ByteFallback"}}, object{{"type", "Fuse"}},
                         object{{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  const auto t = made.make();
  const Ids ids = t->encode("  a\u20acb\U0001F642");
  EXPECT_EQ(ids.size(), 2u + 1 + 3 + 1 + 4);
  std::vector<std::string> parts;
  StreamDecoder decoder(*t);
  for (const auto id : ids) parts.push_back(decoder.next(id));
  EXPECT_EQ(parts, (std::vector<std::string>{"", " ", "a", "", "", "\u20ac", "b", "", "", "", "\U0001F642"}));
  EXPECT_EQ(decoder.finish(), "");
  EXPECT_EQ(t->decode(ids), " a\u20acb\U0001F642");
  // What can be no character is given at once, and what is cut off at the end.
  StreamDecoder broken(*t);
  EXPECT_EQ(broken.next(9 + 0xE2), "");
  EXPECT_EQ(broken.next(9 + 0xFF), "\xe2\xff");
  EXPECT_EQ(broken.next(9 + 0xE2), "");
  EXPECT_EQ(broken.finish(), "\xe2");
  expect_refused([&] { broken.next(1000); }, Failure::configuration, {"1000"});
}

// A quadratic search would take days, and so a time limit would not end it.
TEST(TokenizerJson, AMillionLettersAreOneWord) {
  MadeTokenizer made;
  made.model()["vocab"] = {{"<unk>", 0}, {"a", 1}, {"aa", 2}, {"aaaa", 3}};
  made.model()["merges"] = {"a a", "aa aa"};
  EXPECT_EQ(made.make()->encode(std::string(1 << 20, 'a')), Ids(1 << 18, 3));
}

TEST(Llama2c, BadFilesAreRefused) {
  const TemporaryDirectory directory;
  const std::string path = directory / "t.bin";
  const auto number = [](std::uint32_t n) { return std::string(reinterpret_cast<const char*>(&n), 4); };
  const auto refused = [&](const std::string& bytes, std::initializer_list<std::string> words) {
    put_bytes(path, bytes);
    expect_refused([&] { make_tokenizer(path); }, Failure::configuration, words);
  };
  const std::string one = number(0) + number(1);  // score 0, one byte
  refused("", {path, "ends at byte 0"});
  refused(number(5), {"found 0 tokens, expected at least 259"});
  refused(number(100000), {"longest token", "100000"});
  refused(number(5) + one + "a" + one, {"token 1", "found 1 bytes, expected at most 0"});
  refused(number(5) + number(0) + number(0x7fffffff), {"token 0", "2147483647"});
  refused(number(5) + number(0x7fc00000) + number(1) + "a", {"token 0: score: found nan"});
  refused(number(5) + one + "\xff", {"token 0", "UTF-8"});
  std::string all = number(5);
  for (int i = 0; i < 300; ++i) all += one + "a";
  refused(all, {"token 1: found 'a' for the second time"});
}

}  // namespace
}  // namespace lorashard::core
