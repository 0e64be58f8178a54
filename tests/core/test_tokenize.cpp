#include <gtest/gtest.h>

#include <functional>

#include "core/text_file.hpp"
#include "core/token_file.hpp"
#include "core/tokenize.hpp"
#include "core/tokenizer.hpp"
#include "tests/core/expect_refused.hpp"
#include "tests/core/limited_file_size.hpp"
#include "tests/core/shared_directory.hpp"
#include "tests/core/tiny_vocabulary.hpp"

namespace lorashard::core {
namespace {

using kernels::Failure;
using kernels::Index;
using Ids = std::vector<std::int32_t>;
using Offsets = std::vector<std::int64_t>;

// A directory with one input; `run` makes out.h5 of it.
struct Bench {
  TemporaryDirectory directory;
  std::string from, to = directory / "out.h5";

  explicit Bench(const std::string& content, const std::string& name = "in.txt") : from(directory / name) {
    put_bytes(from, content);
  }
  TokenizeReport run(TextFormat format = TextFormat::automatic, Index vocab_size = 0, const std::string& vocab = "") {
    return tokenize_file({from, to, format, vocab, vocab_size});
  }
  TokenFile result() const { return read_token_file(to); }
};

void expect_report(const TokenizeReport& r, const TokenizeReport& expected) {
  EXPECT_EQ(r.documents, expected.documents);
  EXPECT_EQ(r.tokens, expected.tokens);
  EXPECT_EQ(r.vocab, expected.vocab);
  EXPECT_EQ(r.scored, expected.scored);
  EXPECT_EQ(r.longest, expected.longest);
  EXPECT_EQ(r.kind, expected.kind);
  EXPECT_EQ(r.tokenizer, expected.tokenizer);
}

TEST(Tokenize, TextIsOneDocument) {
  Bench bench("Hé\nyo\n");
  expect_report(bench.run(), {1, 8, 257, 7, 8, "text", "byte"});
  const TokenFile file = bench.result();
  EXPECT_TRUE(file.packed);
  EXPECT_EQ(file.tokenizer, "byte");
  EXPECT_EQ(file.vocab, 257);
  EXPECT_EQ(file.tokens, (Ids{'H', 0xC3, 0xA9, '\n', 'y', 'o', '\n', 256}));
  EXPECT_EQ(file.offsets, (Offsets{0, 8}));
  EXPECT_EQ(file.labels, Ids{});
  EXPECT_EQ(bench.directory.entries(), 2u);  // no partial file
}

TEST(Tokenize, TextByGpt2) {
  Bench bench(" the in");
  TinyVocabulary().write(bench.directory, "encoder.json", "vocab.bpe");
  expect_report(bench.run(TextFormat::text, 0, bench.directory / ""), {1, 4, 263, 3, 4, "text", "gpt2"});
  EXPECT_EQ(bench.result().tokens, (Ids{258, 220, 259, 262}));
}

TEST(Tokenize, PairsScoreTheCompletion) {
  Bench bench("ab||c d \nq ||  r||s\r\nx||y");
  expect_report(bench.run(), {3, 7 + 7 + 4, 257, 5 + 6 + 3, 7, "rows", "byte"});
  const TokenFile file = bench.result();
  EXPECT_FALSE(file.packed);
  const int no = kUnscored;
  EXPECT_EQ(file.tokens,
            (Ids{'a', 'b', ' ', 'c', ' ', 'd', 256, 'q', ' ', 'r', '|', '|', 's', 256, 'x', ' ', 'y', 256}));
  EXPECT_EQ(file.labels, (Ids{no, no, ' ', 'c', ' ', 'd', 256, no, ' ', 'r', '|', '|', 's', 256, no, ' ', 'y', 256}));
  EXPECT_EQ(file.offsets, (Offsets{0, 7, 14, 18}));
}

TEST(Tokenize, ACompletionStartsWithTheTokenOfItsSpace) {
  Bench bench("in||the he\n");
  TinyVocabulary().write(bench.directory, "encoder.json", "vocab.bpe");
  bench.run(TextFormat::automatic, 0, bench.directory / "");
  EXPECT_EQ(bench.result().tokens, (Ids{259, 258, 220, 257, 262}));  // "in" " the" " " "he"
  EXPECT_EQ(bench.result().labels, (Ids{kUnscored, 258, 220, 257, 262}));
}

TEST(Tokenize, JsonLinesKeepIdsAndLabels) {
  const std::string lines =
      "{\"input_ids\": [5, 6, 7], \"labels\": [-100, 6, 9]}\n{\"labels\":null,\"input_ids\":[1,0],\"other\":[{}]}\n"
      " { \"input_ids\" : [ 3 ] } \r\n";
  Bench bench(lines, "rows.jsonl");
  expect_report(bench.run(), {3, 6, 10, 3, 3, "rows", "none"});  // the label 9 is the largest id
  const TokenFile file = bench.result();
  EXPECT_EQ(file.tokens, (Ids{5, 6, 7, 1, 0, 3}));
  EXPECT_EQ(file.labels, (Ids{-100, 6, 9, 1, 0, 3}));
  EXPECT_EQ(file.offsets, (Offsets{0, 3, 5, 6}));
  EXPECT_EQ(bench.run(TextFormat::json, 10).vocab, 10);
  EXPECT_EQ(bench.run(TextFormat::json, 50257).vocab, 50257);
  expect_refused([&] { bench.run(TextFormat::json, 9); }, Failure::configuration,
                 {bench.from + ":1: labels[2]: found 9, expected a whole number from 0 to 8 or -100"});
}

TEST(Tokenize, LabelsThatEqualTheIdsAreLeftOut) {
  Bench bench("{\"input_ids\": [5, 6], \"labels\": [5, 6]}\n", "rows.jsonl");
  bench.run();
  EXPECT_TRUE(bench.result().labels.empty());
}

TEST(Tokenize, FormatFollowsNameAndFirstLine) {
  const auto kind = [](const std::string& content, const std::string& name) {
    Bench bench(content, name);
    const TokenizeReport report = bench.run();
    return report.kind + " " + report.tokenizer;
  };
  EXPECT_EQ(kind("{\"input_ids\": [1, 2]}", "a.json"), "rows none");
  EXPECT_EQ(kind("{\"input_ids\": [1, 2]}", "a.data"), "rows none");
  EXPECT_EQ(kind("a||b", "a.txt"), "rows byte");
  EXPECT_EQ(kind("{\"other\": [1, 2]}", "a.txt"), "text byte");
  EXPECT_EQ(kind("a\nb||c", "a.txt"), "text byte");
}

TEST(Tokenize, EqualInputGivesEqualBytes) {
  Bench one("same text"), two("same text");
  one.run(), two.run();
  EXPECT_EQ(bytes_of(one.to), bytes_of(two.to));
}

// Each of these must name the file, the line, the field, what was found and what was expected, and leave nothing.
TEST(Tokenize, BadInputIsRefused) {
  struct Case {
    TextFormat format;
    std::string content, where;
    std::initializer_list<std::string> words;
  };
  const std::string good = "{\"input_ids\": [1, 2]}\n";
  const auto json = TextFormat::json, pairs = TextFormat::pairs, plain = TextFormat::text;
  for (const Case& c : std::initializer_list<Case>{
           {plain, "", ": ", {"empty file"}},
           {pairs, "", ": ", {"empty file"}},
           {json, "", ": ", {"empty file"}},
           {pairs, "a||b\nab|c\n", ":2: ", {"'ab|c'", "prompt||completion"}},
           {pairs, "a||b\n\nc||d\n", ":2: ", {"''", "prompt||completion"}},
           {pairs, "a||b\n ||b\n", ":2: ", {"prompt: found nothing"}},
           {pairs, "a||b\nc|| \r\n", ":2: ", {"completion: found nothing"}},
           {json, good + "\n" + good, ":2: ", {"empty line"}},
           {json, good + "{\"input_ids\": [1, 2", ":2: ", {"incomplete JSON"}},
           {json, good + "[1, 2]", ":2: ", {"an array", "a JSON object"}},
           {json, good + "{\"ids\": [1]}", ":2: ", {"input_ids", "nothing", "array of token ids"}},
           {json, good + "{\"input_ids\": 3}", ":2: ", {"input_ids", "3", "array of token ids"}},
           {json, good + "{\"input_ids\": []}", ":2: ", {"input_ids", "empty array"}},
           {json, good + "{\"input_ids\": [0, -1]}", ":2: ", {"input_ids[1]: found -1", "0 to 9"}},
           {json, good + "{\"input_ids\": [0, -100]}", ":2: ", {"input_ids[1]: found -100", "0 to 9"}},
           {json, good + "{\"input_ids\": [10]}", ":2: ", {"input_ids[0]: found 10", "0 to 9"}},
           {json, good + "{\"input_ids\": [18446744073709551615]}", ":2: ", {"input_ids[0]", "0 to 9"}},
           {json, good + "{\"input_ids\": [1.5]}", ":2: ", {"input_ids[0]", "whole number"}},
           {json, good + "{\"input_ids\": [\"1\"]}", ":2: ", {"input_ids[0]: found '1'", "whole number"}},
           {json, good + "{\"input_ids\": [null]}", ":2: ", {"input_ids[0]: found nothing", "whole number"}},
           {json, good + "{\"input_ids\": [1, 2], \"labels\": [1]}", ":2: ", {"labels: found 1 entries, expected 2"}},
           {json, good + "{\"input_ids\": [1], \"labels\": [-99]}", ":2: ", {"labels[0]: found -99", "or -100"}},
           {json, good + "{\"input_ids\": [1], \"labels\": \"a\"}", ":2: ", {"labels", "'a'", "array"}},
           {json, "{\"input_ids\": [1, 2], \"labels\": [1, -100]}", ": ", {"labels", "no token to learn from"}}}) {
    SCOPED_TRACE(c.content);
    Bench bench(c.content);
    expect_refused([&] { bench.run(c.format, c.format == json ? 10 : 0); }, Failure::configuration, c.words);
    expect_refused([&] { bench.run(c.format, c.format == json ? 10 : 0); }, Failure::configuration,
                   {bench.from + c.where});
    EXPECT_EQ(bench.directory.entries(), 1u);
  }
}

TEST(Tokenize, InvalidUtf8IsRefusedWithItsPlace) {
  Bench text("in\xff"), pairs("in||he\nin||h\xc3");
  for (Bench* bench : {&text, &pairs}) TinyVocabulary().write(bench->directory, "encoder.json", "vocab.bpe");
  expect_refused([&] { text.run(TextFormat::text, 0, text.directory / ""); }, Failure::configuration,
                 {text.from + ": ", "UTF-8 at byte 2"});
  expect_refused([&] { pairs.run(TextFormat::pairs, 0, pairs.directory / ""); }, Failure::configuration,
                 {pairs.from + ":2: completion: ", "UTF-8 at byte 2"});
}

TEST(Tokenize, BadJobsAreRefused) {
  Bench bench("text");
  expect_refused([&] { bench.run(TextFormat::text, 5); }, Failure::configuration, {"vocab size", "5"});
  expect_refused([&] { bench.run(TextFormat::json, -1); }, Failure::configuration, {"vocab size", "-1"});
  expect_refused(
      [&] {
        tokenize_file({bench.from, bench.from, TextFormat::text, "", 0});
      },
      Failure::configuration, {bench.from, "is the input"});
  EXPECT_EQ(bytes_of(bench.from), "text");
  expect_refused(
      [&] {
        tokenize_file({bench.directory / "absent", bench.to, TextFormat::text, "", 0});
      },
      Failure::configuration, {"absent", "No such file"});
  expect_refused(
      [&] {
        tokenize_file({bench.directory / "absent", bench.to, TextFormat::json, "", 0});
      },
      Failure::configuration, {"absent", "No such file"});
  for (const TextFormat format : {TextFormat::text, TextFormat::pairs})
    expect_refused(
        [&] {
          tokenize_file({bench.directory / "", bench.to, format, "", 0});
        },
        Failure::configuration, {"Is a directory"});
  expect_refused(
      [&] {
        tokenize_file({bench.from, bench.directory / "none/out.h5", TextFormat::text, "", 0});
      },
      Failure::storage, {"none/out.h5"});
}

TEST(Tokenize, AFullDiskLeavesTheOldFileAndNoOther) {
  Bench bench(std::string(300000, 'x'));
  put_bytes(bench.to, "old");
  {
    const LimitedFileSize limit(100000);
    expect_refused([&] { bench.run(); }, Failure::storage, {bench.to});
  }
  EXPECT_EQ(bytes_of(bench.to), "old");
  EXPECT_EQ(bench.directory.entries(), 2u);
  EXPECT_EQ(bench.run().tokens, 300001);  // and it works again when there is room
}

// The rule for pairs in one sentence: the ids are those of "<prompt> <completion>" as plain text.
TEST(Tokenize, RestaurantsReadAsPlainText) {
  const std::string vocabulary = shared_path("vocab/gpt2"), lines_path = shared_path("data/e2e/test.txt");
  if (vocabulary.empty() || lines_path.empty()) GTEST_SKIP() << "vocab/ or data/" << kNoShared;
  const TemporaryDirectory directory;
  const TokenizeReport report = tokenize_file({lines_path, directory / "out.h5", TextFormat::automatic, vocabulary, 0});
  EXPECT_EQ(report.documents, 4693);
  EXPECT_EQ(report.vocab, 50257);
  EXPECT_EQ(report.kind, "rows");
  const TokenFile file = read_token_file(directory / "out.h5");
  const auto tokenizer = make_gpt2_tokenizer(vocabulary);
  LineReader lines(lines_path);
  std::size_t at = 0;
  for (std::string line; lines.next(line); ++at) {
    std::string plain = line.substr(0, line.find_last_not_of(' ') + 1);
    const std::size_t bar = plain.find("||");
    const auto prompt = static_cast<std::ptrdiff_t>(tokenizer->encode(plain.substr(0, bar)).size());
    Ids expected = tokenizer->encode(plain.replace(bar, 2, " "));
    expected.push_back(tokenizer->end_of_text());
    const auto begin = file.tokens.begin() + file.offsets[at], end = file.tokens.begin() + file.offsets[at + 1];
    ASSERT_EQ(Ids(begin, end), expected) << lines.where();
    std::fill_n(expected.begin(), prompt, kUnscored);
    const auto labels = file.labels.begin();
    ASSERT_EQ(Ids(labels + file.offsets[at], labels + file.offsets[at + 1]), expected) << lines.where();
  }
}

}  // namespace
}  // namespace lorashard::core
