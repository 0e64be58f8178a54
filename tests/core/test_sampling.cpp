#include "core/sampling.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

namespace lorashard::core {
namespace {

const std::vector<float> kLogits{0.0f, std::log(2.0f), std::log(4.0f), std::log(1.0f), std::log(8.0f)};  // 1 2 4 1 8 of 16

std::map<std::int32_t, double> shares(double temperature, Index top_k = 0, double top_p = 1) {
  SamplingOptions options;
  options.temperature = temperature, options.top_k = top_k, options.top_p = top_p;
  constexpr int kDraws = 1600;
  std::map<std::int32_t, double> shares;
  for (int i = 0; i < kDraws; ++i) shares[choose(kLogits, options, (i + 0.5) / kDraws)] += 1.0 / kDraws;
  return shares;
}

TEST(Choose, GreedyTakesTheLikeliestAndOfEqualsTheFirst) {
  EXPECT_EQ(choose(kLogits, {}, 0.99), 4);
  EXPECT_EQ(choose(std::vector<float>{1, 3, 3, 2}, {}, 0), 1);
}

TEST(Choose, DrawsByProbability) {
  const auto all = shares(1);
  const double expected[] = {1, 2, 4, 1, 8};
  for (int id = 0; id < 5; ++id) EXPECT_NEAR(all.at(id), expected[id] / 16, 1e-3) << id;
  const auto sharp = shares(0.5);  // squares: 1 4 16 1 64 of 86
  EXPECT_NEAR(sharp.at(4), 64.0 / 86, 1e-3);
  EXPECT_NEAR(sharp.at(1), 4.0 / 86, 1e-3);
}

TEST(Choose, TopKAndTopPCutTheTail) {
  const auto two = shares(1, 2);
  EXPECT_EQ(two.size(), 2u);
  EXPECT_NEAR(two.at(4), 2.0 / 3, 1e-3);
  EXPECT_NEAR(two.at(2), 1.0 / 3, 1e-3);
  EXPECT_EQ(shares(1, 0, 0.5).size(), 1u);    // 8 of 16 is enough
  EXPECT_EQ(shares(1, 0, 0.51).size(), 2u);
  EXPECT_EQ(shares(1, 0, 0.76).size(), 3u);
  EXPECT_EQ(shares(1, 0, 0).size(), 1u);
  EXPECT_EQ(shares(1, 3, 0.95).size(), 3u);
}

TEST(Penalise, EachTokenOnceAndAwayFromItsSign) {
  std::vector<float> logits{2, -2, 1, 0};
  penalise(logits, {0, 1, 0, 1, 3}, 2);
  EXPECT_EQ(logits, (std::vector<float>{1, -4, 1, 0}));
}

TEST(LogSoftmax, SumsToOneAndStandsLargeLogits) {
  const std::vector<float> logits{1e4f, 1e4f - 1, -1e4f};
  double sum = 0;
  for (const double x : log_softmax(logits)) sum += std::exp(x);
  EXPECT_NEAR(sum, 1, 1e-12);
}

// A tree whose likeliest path does not begin with the likeliest token: 0 (0.6) leads to 0.36 at most, 1 (0.4) to 0.4.
std::vector<double> next_of(const std::vector<std::int32_t>& tokens) {
  const auto logs = [](std::vector<double> p) {
    for (double& x : p) x = std::log(x);
    return p;
  };
  if (tokens.empty()) return logs({0.6, 0.4, 1e-9});
  if (tokens.back() == 0) return logs({0.4, 1e-9, 0.6});
  return logs({1e-9, 1e-9, 1.0});
}

std::vector<std::int32_t> searched(Index beams, double length_penalty, const std::vector<std::int32_t>& ends = {2}) {
  BeamSearch search(beams, length_penalty, ends);
  for (int step = 0; step < 6 && !search.done(); ++step) {
    std::vector<std::vector<double>> scores;
    for (const BeamSearch::Beam& beam : search.running()) scores.push_back(next_of(beam.tokens));
    search.advance(scores);
  }
  return search.best();
}

TEST(BeamSearch, FindsWhatGreedyMisses) {
  EXPECT_EQ(searched(2, 0), (std::vector<std::int32_t>{1}));
  EXPECT_EQ(searched(3, 0), (std::vector<std::int32_t>{1}));
}

TEST(BeamSearch, ALengthPenaltyLikesLongerOnes) {
  // Averages of log-probabilities: 1 end: ln 0.4 / 2 = -0.458; 0 0 end ...: (ln 0.6 + ln 0.4 + ln 0.6) / 3 = -0.646.
  EXPECT_EQ(searched(3, 1), (std::vector<std::int32_t>{1}));
  // Cubes of the length: 0 0 0 0 0 end at step 6 is best: (ln 0.6 + 4 ln 0.4 + ln 0.6) / 216.
  EXPECT_EQ(searched(3, 3), (std::vector<std::int32_t>{0, 0, 0, 0, 0}));
}

// 1 ends as well: alone, at ln 0.4, it beats the likelier begin.
TEST(BeamSearch, AnyOfSeveralEnds) {
  EXPECT_EQ(searched(2, 0, {1, 2}), (std::vector<std::int32_t>{}));
  EXPECT_EQ(searched(2, 0, {5, 2}), (std::vector<std::int32_t>{1}));
}

TEST(BeamSearch, SaysWhereEachBeamComesFrom) {
  BeamSearch search(2, 1, {2});
  auto steps = search.advance({next_of({})});
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_EQ(steps[0].token, 0);
  EXPECT_EQ(steps[1].token, 1);
  steps = search.advance({next_of({0}), next_of({1})});
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_EQ(steps[0].parent, 0);
  EXPECT_EQ(steps[0].token, 0);
  EXPECT_EQ(search.running()[0].tokens, (std::vector<std::int32_t>{0, 0}));
}

}  // namespace
}  // namespace lorashard::core
