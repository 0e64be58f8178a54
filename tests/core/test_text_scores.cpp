// Scores worked out by hand for texts of a few words, and those of the E2E challenge's own scripts for 630 outputs.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "core/json_file.hpp"
#include "core/score_words.hpp"
#include "core/text_scores.hpp"

namespace lorashard::core {
namespace {

using Texts = std::vector<ScoredText>;

// A few roundings of numbers of this size.
void expect_score(double found, double expected) {
  EXPECT_NEAR(found, expected, 16 * std::numeric_limits<double>::epsilon() * std::max(1.0, expected));
}

TEST(ScoreWords, AsMtevalCutsThem) {
  EXPECT_EQ(mteval_words("It's £20-25, near Café No.5 &amp; \"Zizzi\" (3.5 stars)."),
            (Words{"it's", "£20", "-", "25", ",", "near", "café", "no", ".", "5", "&", "\"", "zizzi", "\"", "(", "3.5",
                   "stars", ")", "."}));
  EXPECT_EQ(mteval_words("a family-friendly PUB"), (Words{"a", "family-friendly", "pub"}));
  EXPECT_EQ(mteval_words("a.b..c,d 1,000 x,1 1,x"),
            (Words{"a", ".", "b", ".", ".", "c", ",", "d", "1,000", "x", ",", "1", "1", ",", "x"}));
  EXPECT_EQ(mteval_words("&amp;lt;b&gt; <skipped>&quot;"), (Words{"<", "b", ">", "\""}));
  EXPECT_EQ(mteval_words("£.é,½"), (Words{"£", ".", "é", ",", "½"}));
  EXPECT_EQ(mteval_words(" \t"), Words{""});
  EXPECT_EQ(mteval_words(""), Words{""});
}

TEST(ScoreWords, PlainOnesAreLowerCaseBetweenWhiteSpace) {
  EXPECT_EQ(plain_words("  The\tÉCOLE\u00a0No.5 \u3000 ŽÍŽKA\r"), (Words{"the", "école", "no.5", "žížka"}));
  EXPECT_EQ(plain_words("İ"), Words{"i\u0307"});
  EXPECT_EQ(plain_words(" "), Words{});
}

TEST(ScoreWords, RunsAreCounted) {
  EXPECT_EQ(count_ngrams({"a", "b", "a", "b"}, 2), (NgramCounts{{"a b", 2}, {"b a", 1}}));
  EXPECT_EQ(count_ngrams({"a", "b"}, 3), NgramCounts{});
}

TEST(Bleu, IsTheGeometricMeanOfClippedShares) {
  expect_score(bleu(Texts{{"a b c d", {"A B C D"}}}), 1);
  // 5 of 5 words, 3 of 4 pairs, 2 of 3, 1 of 2; of two references one is as long.
  expect_score(bleu(Texts{{"a b c d e", {"a b c d f", "a x e"}}}), std::pow(0.25, 0.25));
  // "a" is twice in the reference: 2 of 4 words, 1 of 3 pairs, then nothing, of 2 and of 1.
  expect_score(bleu(Texts{{"a a a a", {"a a b c"}}}), std::pow(2.0 / 4 * 1 / 3 * 1e-15 / 2 * 1e-15, 0.25));
}

TEST(Bleu, PunishesShortness) {
  // Of 3 words all runs match, and there is none of 4: 1e-15 over 1e-9.
  expect_score(bleu(Texts{{"the cat sat", {"the cat sat down"}}}), std::exp(1 - 4.0 / 3) * std::pow(1e-6, 0.25));
  // The nearest lengths are 3 and 5: the shorter counts, and nothing is lost. Nor is anything for more words.
  expect_score(bleu(Texts{{"a b c d", {"a b c d e", "a b c"}}}), 1);
}

TEST(Bleu, OfAnEmptyOutputAndOfNoMatchIsAlmostNothing) {
  // One empty word against 4: nothing matches, and there are 0, -1 and -2 longer runs.
  expect_score(bleu(Texts{{"", {"a b c d"}}}), std::exp(1 - 4.0) * std::pow(1e-15 * 1e-6 * 1e-6 * 1e-6, 0.25));
  EXPECT_LT(bleu(Texts{{"w x y z", {"a b c d"}}}), 1e-14);
}

TEST(Nist, SumsWhatMatchedRunsTell) {
  // 4 words: "a" tells log2(4 / 2), "b" log2(4 / 1), and "b" after "a" log2(2 / 1).
  expect_score(nist(Texts{{"a b", {"a b", "a c"}}}), (1 + 2) / 2.0 + 1 / 1.0);
  // Two thirds of the length cost half. Each word tells log2(3); what follows it is certain.
  expect_score(nist(Texts{{"a b", {"a b c"}}}), 0.5 * std::log2(3));
  // Pairs: 1 of the first text over 1 + 0 of both.
  expect_score(nist(Texts{{"a b", {"a b"}}, {"c", {"c"}}}), std::log2(3));
}

TEST(Nist, OfAnEmptyOutputAndOfNoMatchIsZero) {
  EXPECT_EQ(nist(Texts{{"", {"a b c d"}}}), 0);
  EXPECT_EQ(nist(Texts{{"x", {"a"}}}), 0);
}

TEST(RougeL, WeighsTheBestPrecisionAndRecall) {
  // a c d: 3 of 4 and 3 of 5.
  expect_score(rouge_l(Texts{{"a b c d", {"A c D e f"}}}), 2.44 * 0.75 * 0.6 / (0.6 + 1.44 * 0.75));
  // c d is all of the second: its recall with the precision of the first.
  expect_score(rouge_l(Texts{{"a b c d", {"a c d e f", "c d"}}}), 2.44 * 0.75 / (1 + 1.44 * 0.75));
  expect_score(rouge_l(Texts{{"a", {"a"}}, {"", {"a"}}, {"x", {"a"}}, {"", {""}}}), 2.0 / 4);
}

TEST(Cider, IsTheCosineOfRareRuns) {
  // Words and pairs are alike, longer runs there are none; the other text has nothing.
  expect_score(cider(Texts{{"a b", {"a b"}}, {"c d", {"e f"}}}), 10 * (2.0 / 4) / 2);
  // "a" counts once of twice, and is a pair longer; the second reference is another.
  expect_score(cider(Texts{{"a a", {"a", "b"}}, {"", {"c"}}}), 10 * (0.5 / 4) * std::exp(-1 / 72.0) / 2 / 2);
  // What every text has says nothing.
  EXPECT_EQ(cider(Texts{{"a", {"a"}}, {"a", {"a"}}}), 0);
  EXPECT_EQ(cider(Texts{{"a b", {"a b"}}}), 0);
}

// Sums of fewer than 2^17 terms, each rounded once, and all terms of a sum have one sign.
void expect_as_published(double found, double published) {
  EXPECT_NEAR(found, published, 0x1p17 * std::numeric_limits<double>::epsilon() * published);
}

void expect_scores(const TextScores& scores, const boost::json::object& published) {
  const JsonFields fields{published, "scores.json"};
  expect_as_published(scores.bleu, fields.real("bleu"));
  expect_as_published(scores.nist, fields.real("nist"));
  expect_as_published(scores.rouge_l, fields.real("rouge_l"));
  expect_as_published(scores.cider, fields.real("cider"));
}

TEST(TextScores, AreThoseOfTheChallengesScripts) {
  const std::string folder = "../shared/data/e2e/";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder << ": the challenge's outputs are not here";
  const Texts texts = read_scored_texts(folder + "scored/outputs.txt", folder + "test.txt");
  const boost::json::object published = read_json_object(folder + "scored/scores.json");
  EXPECT_EQ(std::ssize(texts), published.at("instances").as_int64());
  expect_scores(score(texts), published);
  expect_scores(score(std::span(texts).first(10)), published.at("first_ten").as_object());
}

}  // namespace
}  // namespace lorashard::core
