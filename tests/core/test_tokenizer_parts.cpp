// The parts of a tokenizer.json one by one. What is expected is what tokenizers 0.23.3 answered, unless a test says
// more.
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "core/pre_tokenizer.hpp"
#include "core/text_normalizer.hpp"
#include "core/text_pattern.hpp"
#include "core/token_decoder.hpp"
#include "core/unicode_forms.hpp"
#include "tests/core/expect_refused.hpp"

namespace lorashard::core {
namespace {

using kernels::Failure;
using Texts = std::vector<std::string>;

Texts pieces(const std::string& description, const std::string& text, bool continues = false) {
  const boost::json::value value = boost::json::parse(description);
  Texts found;
  for (const auto& piece : PreTokenizer(&value, "test")({text, true, continues})) found.push_back(piece.text);
  return found;
}

Texts cut(const std::string& pattern, const std::string& text) {
  const boost::json::value split{
      {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
  return pieces(boost::json::serialize(split), text);
}

std::string normal(const std::string& description, const std::string& text, bool continues = false) {
  const boost::json::value value = boost::json::parse(description);
  return TextNormalizer(&value, "test")(text, continues);
}

Texts decoded(const std::string& description, const Texts& tokens) {
  const boost::json::value value = boost::json::parse(description);
  const TokenDecoder decoder(&value, "test");
  Texts found;
  for (const std::string& token : tokens) found.push_back(decoder(token, found.empty()));
  return found;
}

TEST(TextPattern, MeansWhatItMeansForTheReference) {
  EXPECT_EQ(cut(R"((?i:'s|'t)|\p{M}+|[^\s\p{L}])", "x'S y'\u017f e\u0301\u0302 z'T3"),
            (Texts{"x", "'S", " y", "'\u017f", " e", "\u0301\u0302", " z", "'T", "3"}));
  EXPECT_EQ(cut("[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
                "\\s+(?!\\S)|\\s+",
                "e\u0301a 12345!!\n\n  x\u1c89  "),
            (Texts{"e\u0301a", " ", "123", "45", "!!\n\n", " ", " x\u1c89", "  "}));
  EXPECT_EQ(cut("(?i:k)", "\u212akK\u017f"), (Texts{"\u212a", "k", "K", "\u017f"}));
  EXPECT_EQ(cut("a++b|a", "aabac"), (Texts{"aab", "a", "c"}));
  EXPECT_EQ(cut(R"([\S])", "a b"), (Texts{"a", " ", "b"}));
  EXPECT_EQ(cut(R"(\P{L}+|[\P{N}\n]{2})", "ab1\u00e9"), (Texts{"ab", "1", "\u00e9"}));
  EXPECT_EQ(cut("[a-c]+.|\\.", "abz.\n"), (Texts{"abz", ".", "\n"}));
}

TEST(TextPattern, WhatIsNotSupportedIsNamed) {
  for (const auto& [pattern, what] : std::initializer_list<std::pair<const char*, const char*>>{
           {"\\p{Lu}", "'\\p{Lu}"},   {"a{2}+", "'+'"},    {"(?<=a)b", "'(?<="}, {"\\d+", "'\\d"},
           {"[[:alpha:]]", "'[:'"}, {"^a", "'^'"},       {"a**", "'*'"},       {"(a", "'('"},
           {"[a", "'['"},           {"a)", "')'"},       {"[é]", "'é"},        {"a{,3}", "{,3}"},
           {"(?i)a", "'(?i)'"},     {"[a&&b]", "'&&'"},  {"a\\", "'\\'"},      {"[z-a]", "'z-a'"},
           {"a|", "nothing"},       {"\\s*", "nothing"}, {"(?=a)", "nothing"}, {"(a)\\1", "'\\1'"}}) {
    SCOPED_TRACE(pattern);
    expect_refused([&, p = std::string(pattern)] { TextPattern::regex(p, "here"); }, Failure::configuration,
                   {"here: ", what});
  }
  const std::string deep(100, '(');
  expect_refused([&] { TextPattern::regex(deep, "here"); }, Failure::configuration, {"here: "});
}

// It takes more than 2^n steps for n letters without a b behind them.
TEST(TextPattern, AHostilePatternEnds) {
  const TextPattern pattern = TextPattern::regex("(a+a+)+b", "here");
  const std::string text = std::string(3000, 'a') + "cb";
  expect_refused([&] { pattern.matches(text); }, Failure::configuration, {"cannot cut a text"});
}

TEST(UnicodeForms, AreThoseOfTheReference) {
  const auto form = [](NormalForm f) { return [f](const char* text) { return normal_form(text, f); }; };
  const auto nfc = form(NormalForm::nfc), nfkc = form(NormalForm::nfkc);
  EXPECT_EQ(nfc("e\u0301 \u0344 \u1100\u1161\u11a8 q\u0323\u0307"), "\u00e9 \u0308\u0301 \uac01 q\u0323\u0307");
  EXPECT_EQ(nfc("q\u0307\u0323"), "q\u0323\u0307");
  // Known to Unicode 15 and not to the reference: neither moved nor joined.
  EXPECT_EQ(nfc("a\U0001E2AE\u0323 \U00011935\U00011930"), "a\U0001E2AE\u0323 \U00011935\U00011930");
  EXPECT_EQ(nfkc("\ufb01\u2460\u00bd \u32ff"), "fi11\u20442 \u32ff");
  EXPECT_EQ(normal_form("\u00e9\uac00", NormalForm::nfd), "e\u0301\u1100\u1161");
  EXPECT_EQ(normal_form("\ufb01\u00e9\u3392", NormalForm::nfkd), "fie\u0301MHz");
  EXPECT_EQ(lower_case("\u0130I\u03a3\u1c89\u03a9\U00010D50"), "i\u0307i\u03c3\u1c8a\u03c9\U00010D70");
}

TEST(TextNormalizer, StepsFollowOneAnother) {
  const std::string strip = R"({"type":"Strip","strip_left":)";
  EXPECT_EQ(normal(strip + R"(true,"strip_right":true})", "\u3000 a b\n"), "a b");
  EXPECT_EQ(normal(strip + R"(true,"strip_right":false})", " a "), "a ");
  EXPECT_EQ(normal(strip + R"(false,"strip_right":true})", " a "), " a");
  EXPECT_EQ(normal(strip + R"(true,"strip_right":true})", "  "), "");
  EXPECT_EQ(normal(R"({"type":"Replace","pattern":{"Regex":" {2,}"},"content":"_"})", "a  b c   "), "a_b c_");
  EXPECT_EQ(normal(R"({"type":"Replace","pattern":{"String":"ab"},"content":"x"})", "ababa"), "xxa");
  const std::string llama = R"({"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"_"},
                               {"type":"Replace","pattern":{"String":" "},"content":"_"},{"type":"NFKC"}]})";
  EXPECT_EQ(normal(llama, "a ﬁ"), "_a_fi");
  EXPECT_EQ(normal(llama, ""), "");
  EXPECT_EQ(normal(llama, "a b", true), "a_b");
}

TEST(PreTokenizer, DelimitersGoWhereTheySay) {
  const auto split = [](const std::string& behavior, bool invert) {
    return pieces(R"({"type":"Split","pattern":{"String":" "},"behavior":")" + behavior + R"(","invert":)" +
                      (invert ? "true}" : "false}"),
                  " a  b c ");
  };
  EXPECT_EQ(split("Removed", false), (Texts{"a", "b", "c"}));
  EXPECT_EQ(split("Removed", true), (Texts{" ", " ", " ", " ", " "}));
  for (const bool invert : {false, true}) EXPECT_EQ(split("Isolated", invert).size(), 8u);
  EXPECT_EQ(split("MergedWithPrevious", false), (Texts{" ", "a ", " ", "b ", "c "}));
  EXPECT_EQ(split("MergedWithPrevious", true), (Texts{" a", " ", " b", " c", " "}));
  EXPECT_EQ(split("MergedWithNext", false), (Texts{" a", " ", " b", " c", " "}));
  EXPECT_EQ(split("MergedWithNext", true), (Texts{" ", "a ", " ", "b ", "c "}));
  for (const bool invert : {false, true})
    EXPECT_EQ(split("Contiguous", invert), (Texts{" ", "a", "  ", "b", " ", "c", " "}));
}

TEST(PreTokenizer, OtherKinds) {
  EXPECT_EQ(pieces(R"({"type":"Digits","individual_digits":true})", "a12b٣"), (Texts{"a", "1", "2", "b", "٣"}));
  EXPECT_EQ(pieces(R"({"type":"Digits","individual_digits":false})", "a12b٣"), (Texts{"a", "12", "b", "٣"}));
  EXPECT_EQ(pieces(R"({"type":"WhitespaceSplit"})", " a\t\u3000b "), (Texts{"a", "b"}));
  EXPECT_EQ(pieces(R"({"type":"ByteLevel"})", "hi you's"), (Texts{"Ġhi", "Ġyou", "'s"}));
  EXPECT_EQ(pieces(R"({"type":"ByteLevel"})", "hi", true), (Texts{"hi"}));
  const auto metaspace = [](const std::string& scheme, const std::string& text, bool continues = false) {
    return pieces(R"({"type":"Metaspace","replacement":"▁","prepend_scheme":")" + scheme + "\"}", text, continues);
  };
  EXPECT_EQ(metaspace("always", "hi  you ▁x"), (Texts{"▁hi", "▁", "▁you", "▁", "▁x"}));
  EXPECT_EQ(metaspace("first", "hi  you ▁x"), (Texts{"▁hi", "▁", "▁you", "▁", "▁x"}));
  EXPECT_EQ(metaspace("never", "hi  you ▁x"), (Texts{"hi", "▁", "▁you", "▁", "▁x"}));
  EXPECT_EQ(metaspace("always", "hi", true), (Texts{"hi"}));
  EXPECT_EQ(pieces(R"({"type":"Metaspace","replacement":"▁","split":false})", "hi  you ▁x"), (Texts{"▁hi▁▁you▁▁x"}));
}

TEST(TokenDecoder, Kinds) {
  EXPECT_EQ(decoded(R"({"type":"Metaspace","replacement":"▁"})", {"▁a", "▁b", "c"}), (Texts{"a", " b", "c"}));
  EXPECT_EQ(decoded(R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"never"})", {"▁a"}), (Texts{" a"}));
  EXPECT_EQ(decoded(R"({"type":"ByteFallback"})", {"<0x0A>", "<0xfF>", "<0x-1>", "<0xZZ>", "<0x0A"}),
            (Texts{"\n", "\xff", "<0x-1>", "<0xZZ>", "<0x0A"}));
  EXPECT_EQ(decoded(R"({"type":"ByteLevel"})", {"Ġa", "<a b>", "Ã"}), (Texts{" a", "<a b>", "\xc3"}));
  EXPECT_EQ(decoded(R"({"type":"Strip","content":" ","start":1,"stop":1})", {"  a  ", " ", "b"}),
            (Texts{" a ", "", "b"}));
  EXPECT_EQ(decoded(R"({"type":"Replace","pattern":{"String":"▁"},"content":" "})", {"▁a▁"}), (Texts{" a "}));
}

TEST(TokenizerParts, OthersAreRefusedByName) {
  const auto refused = [](const auto& make, const std::string& description, std::initializer_list<std::string> words) {
    const boost::json::value value = boost::json::parse(description);
    expect_refused([&] { make(value); }, Failure::configuration, words);
  };
  const auto normalizer = [](const auto& value) { TextNormalizer(&value, "f: normalizer"); };
  const auto cutter = [](const auto& value) { PreTokenizer(&value, "f: pre_tokenizer"); };
  const auto decoder = [](const auto& value) { TokenDecoder(&value, "f: decoder"); };
  refused(normalizer, R"({"type":"Precompiled"})", {"f: normalizer: 'type': found 'Precompiled', expected NFC"});
  refused(normalizer, R"({"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Nmt"}]})",
          {"normalizers[1]", "'Nmt'"});
  refused(normalizer, R"({"type":"Sequence"})", {"'normalizers': found nothing, expected an array"});
  refused(normalizer, "5", {"found 5, expected an object"});
  refused(normalizer, R"({"type":"Replace","pattern":{"String":""},"content":""})", {"pattern", "empty"});
  refused(cutter, R"({"type":"BertPreTokenizer"})", {"'BertPreTokenizer'", "ByteLevel"});
  refused(cutter, R"({"type":"Split","pattern":{"Regex":"a"},"behavior":"Dropped"})", {"'behavior'", "'Dropped'"});
  refused(cutter, R"({"type":"Split","pattern":"a","behavior":"Removed"})", {"'pattern'", "'a'", "String"});
  refused(cutter, R"({"type":"Metaspace","replacement":"_","prepend_scheme":"last"})", {"'last'", "first"});
  refused(decoder, R"({"type":"WordPiece"})", {"'WordPiece'"});
  refused(decoder, R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteLevel"}]})", {"'ByteLevel'", "Fuse"});
  refused(decoder,
          R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"Strip","content":" ","start":0,"stop":1}]})",
          {"'stop'", "found 1", "0"});
  refused(decoder, R"({"type":"Strip","content":" ","start":-1,"stop":0})", {"'start'", "-1"});
  refused(decoder, "null", {"f: decoder", "found nothing"});
}

}  // namespace
}  // namespace lorashard::core
