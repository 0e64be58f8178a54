// Every text of ../shared/vocab/made/encodings.jsonl (300 of many scripts, made with Hugging Face's tokenizers 0.23),
// and llama2.c's vocabulary against what its run.c does.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cstring>

#include "core/text_file.hpp"
#include "core/tokenizer.hpp"
#include "tests/core/expect_refused.hpp"
#include "tests/core/shared_directory.hpp"

namespace lorashard::core {
namespace {

using Ids = std::vector<std::int32_t>;
constexpr Encoding kAsReference{.specials = true, .frame = true};

std::string streamed(const Tokenizer& tokenizer, const Ids& ids) {
  StreamDecoder decoder(tokenizer);
  std::string text;
  for (const std::int32_t id : ids) {
    const std::string part = decoder.next(id);
    EXPECT_TRUE(boost::json::value(part).is_string());
    text += part;
  }
  return text + decoder.finish();
}

void expect_golden(const std::string& kind, const std::string& directory) {
  const std::string path = shared_path(directory), golden = shared_path("vocab/made/encodings.jsonl");
  if (path.empty() || golden.empty()) GTEST_SKIP() << "vocab/" << kNoShared;
  const auto tokenizer = make_tokenizer(path);
  LineReader lines(golden);
  int rows = 0;
  for (std::string line; lines.next(line); ++rows) {
    const boost::json::value row = boost::json::parse(line);
    const auto text = boost::json::value_to<std::string>(row.at("text"));
    const auto expected = boost::json::value_to<Ids>(row.at(kind).at("ids"));
    const auto decoded = boost::json::value_to<std::string>(row.at(kind).at("decoded"));
    EXPECT_EQ(tokenizer->encode(text, kAsReference), expected) << lines.where();
    EXPECT_EQ(tokenizer->decode(expected), decoded) << lines.where();
    EXPECT_EQ(streamed(*tokenizer, expected), decoded) << lines.where();
    // What data may hold: markers are text, and every text comes back (but what a normalizer makes another one of).
    const std::string again = tokenizer->decode(tokenizer->encode(text));
    if (kind != "qwen_style" && text.find("▁") == text.npos) {
      EXPECT_EQ(again, text) << lines.where();
    }
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(again)), again) << lines.where();
  }
  EXPECT_EQ(rows, 300);
}

TEST(TokenizerFiles, Llama2Style) { expect_golden("llama2_style", "vocab/made/llama2_style"); }
TEST(TokenizerFiles, Llama3Style) { expect_golden("llama3_style", "vocab/made/llama3_style"); }
TEST(TokenizerFiles, QwenStyle) { expect_golden("qwen_style", "vocab/made/qwen_style/tokenizer.json"); }
TEST(TokenizerFiles, Gpt2) { expect_golden("gpt2", "vocab/gpt2"); }

TEST(TokenizerFiles, Gpt2sOwnFilesSayTheSame) {
  const std::string path = shared_path("vocab/gpt2");
  if (path.empty()) GTEST_SKIP() << "vocab/" << kNoShared;
  const auto json = make_tokenizer(path), own = make_gpt2_tokenizer(path);
  EXPECT_EQ(json->name(), "gpt2");
  EXPECT_EQ(own->name(), "gpt2");
  EXPECT_EQ(json->vocab(), own->vocab());
  EXPECT_EQ(json->end_of_text(), own->end_of_text());
  EXPECT_EQ(json->digest().size(), 32u);
  EXPECT_NE(json->digest(), own->digest());  // of other files
  for (std::int32_t id = 0; id < own->vocab(); ++id) ASSERT_EQ(json->decode({id}, true), own->decode({id}, true)) << id;
}

// run.c: a space goes in front, then the best score of all neighbours is joined, the leftmost of equals, one at a time.
Ids joined_by_run_c(const std::string& text, const std::vector<std::pair<float, std::string>>& vocabulary) {
  const auto find = [&](const std::string& token) {
    for (std::size_t i = 0; i < vocabulary.size(); ++i)
      if (vocabulary[i].second == token) return static_cast<std::int32_t>(i);
    return -1;
  };
  Ids ids{1};
  if (!text.empty()) ids.push_back(find(" "));
  for (std::size_t at = 0, end; at < text.size(); at = end) {
    for (end = at + 1; end < text.size() && (text[end] & 0xC0) == 0x80;) ++end;
    const std::int32_t id = find(text.substr(at, end - at));
    if (id >= 0) ids.push_back(id);
    for (std::size_t i = at; id < 0 && i < end; ++i) ids.push_back(static_cast<unsigned char>(text[i]) + 3);
  }
  for (;;) {
    float best = -1e10f;
    std::size_t place = 0;
    std::int32_t result = -1;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const std::int32_t id = find(vocabulary[ids[i]].second + vocabulary[ids[i + 1]].second);
      if (id < 0 || vocabulary[id].first <= best) continue;
      best = vocabulary[id].first, place = i, result = id;
    }
    if (result < 0) return ids;
    ids[place] = result;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

TEST(TokenizerFiles, Llama2cJoinsAsRunC) {
  const std::string path = shared_path("models/stories260K/tok512.bin"),
                    golden = shared_path("vocab/made/encodings.jsonl");
  if (path.empty() || golden.empty()) GTEST_SKIP() << "models/" << kNoShared;
  const auto tokenizer = make_tokenizer(path);
  EXPECT_EQ(tokenizer->vocab(), 512);
  EXPECT_EQ(tokenizer->name(), "tok512");
  EXPECT_EQ(tokenizer->beginning_of_text(), 1);
  EXPECT_EQ(tokenizer->end_of_text(), 2);
  std::vector<std::pair<float, std::string>> vocabulary;
  const std::string bytes = read_text_file(path);
  for (std::size_t at = 4; at < bytes.size();) {
    float score;
    std::int32_t length;
    std::memcpy(&score, &bytes[at], 4), std::memcpy(&length, &bytes[at + 4], 4);
    vocabulary.emplace_back(score, bytes.substr(at + 8, static_cast<std::size_t>(length)));
    at += 8 + static_cast<std::size_t>(length);
  }
  LineReader lines(golden);
  std::vector<std::string> texts{read_text_file(shared_path("models/stories260K/expected_stdout.txt"))};
  for (std::string line; lines.next(line);)
    texts.push_back(boost::json::value_to<std::string>(boost::json::parse(line).at("text")));
  for (const std::string& text : texts) {
    if (text.find('\0') != text.npos) continue;  // the end of a C string
    const Ids ids = tokenizer->encode(text, {.frame = true});
    EXPECT_EQ(ids, joined_by_run_c(text, vocabulary)) << text;
    EXPECT_EQ(tokenizer->decode(ids), text);
    EXPECT_EQ(streamed(*tokenizer, ids), text);
  }
}

}  // namespace
}  // namespace lorashard::core
