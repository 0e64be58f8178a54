#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>
#include <map>

#include "core/byte_level.hpp"
#include "core/pre_tokenizer.hpp"
#include "core/text_file.hpp"
#include "core/tokenizer.hpp"
#include "core/unicode_class.hpp"
#include "core/utf8.hpp"
#include "tests/core/expect_refused.hpp"
#include "tests/core/shared_directory.hpp"
#include "tests/core/tiny_vocabulary.hpp"

namespace lorashard::core {
namespace {

using kernels::Failure;
using Ids = std::vector<std::int32_t>;
using Words = std::vector<std::string>;

// The pieces of GPT-2's pre-tokenizer, their bytes as they were.
Words words_of(const std::string& text) {
  const boost::json::value description{{"type", "ByteLevel"}, {"add_prefix_space", false}};
  Words words;
  for (const auto& piece : PreTokenizer(&description, "test")({text}))
    words.push_back(from_visible(piece.text).value());
  return words;
}

// FNV-1a over the class letters of all code points ('-' for surrogates) and their counts, as tokenizers 0.23.3 has
// them: each code point was put behind "a", "1" and "!" to see which one it joins.
TEST(UnicodeClass, IsThatOfTheReferenceForEveryCodePoint) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  std::map<char, int> counts;
  for (char32_t c = 0; c < 0x110000; ++c) {
    const char letter = c >= 0xD800 && c < 0xE000 ? '-' : "LNMSO"[static_cast<int>(unicode_class(c))];
    hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3u;
    ++counts[letter];
  }
  EXPECT_EQ(counts,
            (std::map<char, int>{{'-', 2048}, {'L', 141028}, {'M', 2501}, {'N', 1911}, {'O', 966599}, {'S', 25}}));
  EXPECT_EQ(hash, 0x2a70ef7d24aa7fc4u);
}

// Expected pieces are those of tokenizers 0.23.3, pre_tokenizers.ByteLevel.
TEST(Gpt2Words, AreCutAsThePatternSays) {
  EXPECT_EQ(words_of("Hello, world!"), (Words{"Hello", ",", " world", "!"}));
  EXPECT_EQ(words_of("don't I'LL we've they're O'D'd'm"),
            (Words{"don", "'t", " I", "'", "LL", " we", "'ve", " they", "'re", " O", "'", "D", "'d", "'m"}));
  EXPECT_EQ(words_of("two  spaces   three "), (Words{"two", " ", " spaces", "  ", " three", " "}));
  EXPECT_EQ(words_of(" \t\n x\n\n  y  "), (Words{" \t\n", " x", "\n\n ", " y", "  "}));
  EXPECT_EQ(words_of("a\u00a0\u00a0b\u3000 c"), (Words{"a", "\u00a0", "\u00a0", "b", "\u3000", " c"}));
  EXPECT_EQ(words_of("x'S 's ''s !'t"), (Words{"x", "'", "S", " '", "s", " ''", "s", " !'", "t"}));
  EXPECT_EQ(words_of("١٢٣½Ⅷ4a5"), (Words{"١٢٣½Ⅷ4", "a", "5"}));
  EXPECT_EQ(words_of("naïve e\u0301"), (Words{"naïve", " e", "\u0301"}));
  EXPECT_EQ(words_of("\u1c89\U000323b0\U0002ebf0a"), (Words{"\u1c89", "\U000323b0", "\U0002ebf0a"}));
  EXPECT_EQ(words_of("--- ***\r\n#x"), (Words{"---", " ***", "\r", "\n", "#", "x"}));
  EXPECT_EQ(words_of("🙂a\u200bb 🙂"), (Words{"🙂", "a", "\u200b", "b", " 🙂"}));
}

TEST(Utf8, FirstInvalidSequenceIsFound) {
  const auto none = std::string_view::npos;
  EXPECT_EQ(invalid_utf8_at(""), none);
  EXPECT_EQ(invalid_utf8_at("a\u00e9\u20ac\U0010ffff"), none);
  EXPECT_EQ(invalid_utf8_at("ab\xff"), 2u);
  EXPECT_EQ(with_valid_utf8(""), "");
  EXPECT_EQ(with_valid_utf8("a\u00e9\u20ac"), "a\u00e9\u20ac");
  EXPECT_EQ(with_valid_utf8("\xff" "a\xe2\x82" "b\xe2\x82\xac\xc3"), "\uFFFD" "a\uFFFD\uFFFD" "b\u20ac\uFFFD");
  EXPECT_EQ(invalid_utf8_at("a\x80"), 1u);             // a continuation without a start
  EXPECT_EQ(invalid_utf8_at("a\u20ac\xe2\x82"), 4u);   // cut off
  EXPECT_EQ(invalid_utf8_at("\xc0\xaf"), 0u);          // overlong
  EXPECT_EQ(invalid_utf8_at("a\xed\xa0\x80"), 1u);     // a surrogate
  EXPECT_EQ(invalid_utf8_at("\xf4\x90\x80\x80"), 0u);  // above U+10FFFF
}

TEST(ByteTokenizer, OneIdAByte) {
  const auto tokenizer = make_byte_tokenizer();
  EXPECT_EQ(tokenizer->name(), "byte");
  EXPECT_EQ(tokenizer->vocab(), 257);
  EXPECT_EQ(tokenizer->end_of_text(), 256);
  EXPECT_EQ(tokenizer->encode("Aé\n"), (Ids{65, 0xC3, 0xA9, 10}));
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(all)), all);
  EXPECT_EQ(tokenizer->decode({72, 105, 256}), "Hi");
  expect_refused([&] { tokenizer->decode({1, 257}); }, Failure::configuration, {"257", "byte", "0 to 256"});
  expect_refused([&] { tokenizer->decode({-1}); }, Failure::configuration, {"-1"});
}

TEST(TinyGpt2, PairsAreJoinedByRank) {
  const TemporaryDirectory directory;
  TinyVocabulary().write(directory, "encoder.json", "vocab.bpe");
  const auto tokenizer = make_gpt2_tokenizer(directory / "");
  EXPECT_EQ(tokenizer->name(), "gpt2");
  EXPECT_EQ(tokenizer->vocab(), 263);
  EXPECT_EQ(tokenizer->end_of_text(), 262);
  EXPECT_EQ(tokenizer->encode(""), Ids{});
  EXPECT_EQ(tokenizer->encode("the the"), (Ids{83, 257, 258}));
  EXPECT_EQ(tokenizer->encode(" tin"), (Ids{256, 259}));
  EXPECT_EQ(tokenizer->encode("aaaaaaa"), (Ids{261, 260, 64}));  // leftmost pairs first
  EXPECT_EQ(tokenizer->encode("\n"), (Ids{198}));                // byte 10 is shown as U+010A
  EXPECT_EQ(tokenizer->encode("é"), (Ids{127, 102}));            // bytes C3 A9
  EXPECT_EQ(tokenizer->encode("\xc2\xad"), (Ids{126, 255}));     // byte AD comes last
}

TEST(TinyGpt2, DecodesWhatItEncoded) {
  const TemporaryDirectory directory;
  TinyVocabulary().write(directory, "vocab.json", "merges.txt");  // the other pair of names
  const auto tokenizer = make_gpt2_tokenizer(directory / "");
  std::string text;
  for (char32_t c = 0; c < 0x3000; ++c) {
    if (c < 0x80)
      text += static_cast<char>(c);
    else if (c < 0x800)
      text += {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
    else
      text += {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)),
               static_cast<char>(0x80 | (c & 0x3F))};
  }
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  EXPECT_EQ(tokenizer->decode({258, 262}), " the");
  EXPECT_EQ(tokenizer->decode({127}), "\xc3");  // a part of a character is a part of one
  const Ids marker = tokenizer->encode("<|endoftext|>");
  EXPECT_EQ(std::count(marker.begin(), marker.end(), 262), 0);
  EXPECT_EQ(tokenizer->decode(marker), "<|endoftext|>");
  expect_refused([&] { tokenizer->decode({263}); }, Failure::configuration, {"263", "gpt2", "0 to 262"});
  expect_refused([&] { tokenizer->encode("ab\xff"); }, Failure::configuration, {"UTF-8", "byte 2", "255"});
}

TEST(TinyGpt2, LongWordsAndManyWordsGiveTheSameIds) {
  const TemporaryDirectory directory;
  TinyVocabulary().write(directory, "encoder.json", "vocab.bpe");
  const auto tokenizer = make_gpt2_tokenizer(directory / "");
  const Ids ids = tokenizer->encode(std::string(1 << 20, 'a'));  // a quadratic search would not end
  EXPECT_EQ(ids, Ids(1 << 18, 261));
  std::string text;  // more words than are remembered
  for (int i = 0; i < 150000; ++i) text += " " + std::to_string(i);
  text += " the";
  const Ids many = tokenizer->encode(text);
  EXPECT_EQ(many.back(), 258);
  EXPECT_EQ(tokenizer->decode(many), text);
  EXPECT_EQ(tokenizer->encode(text), many);
}

TEST(TinyGpt2, BadFilesAreRefused) {
  const auto refused = [](const TinyVocabulary& v, const std::string& json, std::initializer_list<std::string> words) {
    const TemporaryDirectory directory;
    v.write(directory, "encoder.json", "vocab.bpe");
    if (!json.empty()) put_bytes(directory / "encoder.json", json);
    expect_refused([&] { make_gpt2_tokenizer(directory / ""); }, Failure::configuration, words);
  };
  const TemporaryDirectory empty;
  expect_refused([&] { make_gpt2_tokenizer(empty / "x"); }, Failure::configuration, {empty / "x", "encoder.json"});
  TinyVocabulary v;
  put_bytes(empty / "encoder.json", v.json());
  expect_refused([&] { make_gpt2_tokenizer(empty / ""); }, Failure::configuration, {"vocab.bpe", "No such file"});

  refused(v, v.json().substr(0, 500), {"encoder.json", "JSON"});
  refused(v, "[]", {"encoder.json", "object"});
  refused(v, R"({"a": 1.5})", {"encoder.json", "'a'", "1.5", "0 to 0"});
  refused(v, R"({"a": 0, "b": 0})", {"encoder.json", "id 0"});
  refused(v, R"({"a": 0, "b": 2000000000})", {"encoder.json", "2000000000", "0 to 1"});
  v.tokens.back() = "<|end|>";
  refused(v, "", {"encoder.json", "<|endoftext|>"});
  v = {};
  v.tokens[65] = "xx";
  refused(v, "", {"encoder.json", "byte 98"});
  v = {};
  v.merges += "Ġt h\n";
  refused(v, "", {"vocab.bpe:8", "'Ġth'", "encoder.json"});
  v = {};
  v.merges += "h e\n";
  refused(v, "", {"vocab.bpe:8", "second time"});
  v = {};
  v.merges += "h e i\n";
  refused(v, "", {"vocab.bpe:8", "two tokens"});
}

TEST(Gpt2, GoldenEncodings) {
  const std::string vocabulary = shared_path("vocab/gpt2"), golden = shared_path("vocab/made/encodings.jsonl");
  if (vocabulary.empty() || golden.empty()) GTEST_SKIP() << "vocab/" << kNoShared;
  const auto tokenizer = make_gpt2_tokenizer(vocabulary);
  EXPECT_EQ(tokenizer->vocab(), 50257);
  EXPECT_EQ(tokenizer->end_of_text(), 50256);
  LineReader lines(golden);
  int rows = 0;
  for (std::string line; lines.next(line); ++rows) {
    const boost::json::value row = boost::json::parse(line);
    const auto text = boost::json::value_to<std::string>(row.at("text"));
    const Ids ids = tokenizer->encode(text);
    EXPECT_EQ(ids, boost::json::value_to<Ids>(row.at("gpt2").at("ids"))) << lines.where();
    EXPECT_EQ(tokenizer->decode(ids), boost::json::value_to<std::string>(row.at("gpt2").at("decoded")));
    EXPECT_EQ(tokenizer->decode(ids), text) << lines.where();
  }
  EXPECT_EQ(rows, 300);
}

}  // namespace
}  // namespace lorashard::core
