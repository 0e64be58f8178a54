// The real trainer on random small models of the llama family against the oracle (tests/golden/oracle_run.hpp), on
// every mesh of as many ranks as the test runs on: all that its members differ in (biases, norms of queries and keys,
// heads of their own size, windows, scaled positions, the order of pairs, the head) under all that trains.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numbers>
#include <set>

#include "tests/golden/oracle_run.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::core {
namespace {

// Positions, by the formulas that models are trained with, apart from core/rotary_positions. The original context is
// such that pairs of a head turn often, sometimes and hardly within it.
constexpr double kTheta = 1000, kFactor = 4, kFew = 0.4, kMany = 4, kOriginal = 100;

// Llama 3.1's release, apply_scaling: by wavelength.
double llama3_frequency(double frequency) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < kOriginal / kMany) return frequency;
  if (wavelength > kOriginal / kFew) return frequency / kFactor;
  const double smooth = (kOriginal / wavelength - kFew) / (kMany - kFew);
  return (1 - smooth) * frequency / kFactor + smooth * frequency;
}

// YaRN's release (LlamaYaRNScaledRotaryEmbedding), which transformers follows: a ramp over the pairs, from the one that
// turns kMany times to the one that turns kFew times, both rounded outwards.
double yarn_frequency(double frequency, Index pair, Index head_size) {
  const auto dimension = [&](double turns) {
    return static_cast<double>(head_size) * std::log(kOriginal / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(kTheta));
  };
  const double low = std::max(std::floor(dimension(kMany)), 0.0);
  const double high = std::min(std::ceil(dimension(kFew)), static_cast<double>(head_size - 1));
  const double ramp = std::min(std::max((static_cast<double>(pair) - low) / (high - low), 0.0), 1.0);
  return frequency / kFactor * ramp + frequency * (1 - ramp);
}

// Both sides of a scaling, the oracle's in `shape`.
RopeShape scale(RopeScaling scaling, oracle::Shape& shape) {
  shape.rope_theta = kTheta;
  for (Index pair = 0; pair < shape.d() / 2; ++pair) {
    const double f = std::pow(kTheta, -2.0 * static_cast<double>(pair) / static_cast<double>(shape.d()));
    shape.rope_frequencies.push_back(scaling == RopeScaling::linear   ? f / kFactor
                                     : scaling == RopeScaling::llama3 ? llama3_frequency(f)
                                     : scaling == RopeScaling::yarn   ? yarn_frequency(f, pair, shape.d())
                                                                      : f);
  }
  RopeShape rope{.theta = kTheta, .scaling = scaling, .neighbours = shape.rope_neighbours};
  if (scaling != RopeScaling::none) rope.factor = kFactor;
  if (scaling == RopeScaling::llama3 || scaling == RopeScaling::yarn)
    rope.low = kFew, rope.high = kMany, rope.original_context = static_cast<Index>(kOriginal);
  if (scaling == RopeScaling::yarn) shape.rope_magnitude = 0.1 * std::log(kFactor) + 1;  // Peng et al. 2023: sqrt(1/t)
  return rope;
}

// What trains.
struct Training {
  const char* name;
  void (*change)(Config&);
};
const Training kTrainings[] = {
    {"lora",
     [](Config& c) {
       c.adapter.targets = {Target::q, Target::k, Target::v, Target::o, Target::up, Target::gate, Target::down};
       c.adapter.rank_of = {{Target::k, 1}, {Target::gate, 5}, {Target::down, 2}};
       c.adapter.alpha_of = {{Target::v, 3}, {Target::up, 16}};
     }},
    {"joint_and_dense",
     [](Config& c) {
       c.adapter.targets = {Target::qkv, Target::o, Target::up, Target::gate};
       c.adapter.rank_of = {{Target::up, kFullRank}, {Target::gate, kFullRank}};
       c.adapter.layers = {1, 3, 4};
       c.adapter.dropout = 0.3;
     }},
    {"full", [](Config& c) { c.adapter.method = Method::full, c.train.label_smoothing = 0.1; }},
    {"bf16",
     [](Config& c) {
       c.adapter.targets = {Target::q, Target::v, Target::o, Target::up, Target::gate, Target::down};
       c.train.precision = kernels::DType::bf16;
     }},
};
void bf16_full(Config& c) { c.adapter.method = Method::full, c.train.precision = kernels::DType::bf16; }

constexpr RopeScaling kScalings[] = {RopeScaling::none, RopeScaling::linear, RopeScaling::llama3, RopeScaling::yarn};
constexpr const char* kScalingNames[] = {"plain", "linear", "llama3", "yarn"};
constexpr Index kKeyHeads[] = {2, 3, 1, 12};

// A level of each option: scaling, training and key/value heads have four, the others two.
enum Option { scaling, training, key_heads, biases, head_norms, wide_heads, neighbours, untied, window, kOptions };
using Levels = std::array<int, kOptions>;
constexpr std::size_t kRuns = 16;

// Every pair of levels of every two options in 16 runs: an orthogonal array of strength 2 (Bush 1952). Runs are the
// points (a, b) of the plane over the field of four elements {0, 1, w, w + 1}, columns a, b and a + x b; of the last
// two, each of four levels gives three of two levels, whose third is the sum of the others.
Levels levels_of(std::size_t run) {
  constexpr int kTimes[4][4] = {{0, 0, 0, 0}, {0, 1, 2, 3}, {0, 2, 3, 1}, {0, 3, 1, 2}};
  const int a = static_cast<int>(run / 4), b = static_cast<int>(run % 4);
  const int fourth = a ^ kTimes[2][b], fifth = a ^ kTimes[3][b];
  return {a,          b,           a ^ b,
          fourth & 1, fourth >> 1, (fourth & 1) ^ (fourth >> 1),
          fifth & 1,  fifth >> 1,  (fifth & 1) ^ (fifth >> 1)};
}

struct Base {
  oracle::Model model;
  std::string file;
};

// Collective.
Base base_of(const Levels& levels, const std::string& name) {
  oracle::Shape shape = golden::oracle_shape();
  shape.family = "llama";
  shape.kv_heads = kKeyHeads[levels[key_heads]];
  shape.qkv_bias = levels[biases], shape.qk_norm = levels[head_norms];
  shape.head_size = levels[wide_heads] ? 8 : 6;  // 24 / 12 values at times have no norm to divide by
  shape.rope_neighbours = levels[neighbours];
  shape.tied_head = !levels[untied];
  if (levels[window]) shape.window = 3;
  const RopeShape rope = scale(kScalings[levels[scaling]], shape);
  Base base{oracle::random_model(shape, 1), golden::scratch() + "/" + name + ".h5"};
  golden::on_rank_0([&] { golden::write_base(base.file, base.model, rope); });
  return base;
}

std::string name_of(const Levels& levels) {
  std::string name = std::string(kTrainings[levels[training]].name) + "_" + kScalingNames[levels[scaling]] + "_" +
                     std::to_string(kKeyHeads[levels[key_heads]]) + "_key_heads";
  const std::pair<Option, const char*> switches[] = {{biases, "_biases"},         {head_norms, "_head_norms"},
                                                     {wide_heads, "_wide_heads"}, {neighbours, "_neighbours"},
                                                     {untied, "_untied"},         {window, "_window"}};
  for (const auto& [option, words] : switches)
    if (levels[option]) name += words;
  return name;
}

class ModelOfLlama : public testing::TestWithParam<std::size_t> {};

// On one rank every mode, on more one a mesh. On four a mesh takes half of the scalings, on six one, and still meets
// every level of all the rest.
TEST_P(ModelOfLlama, HasTheOraclesLossAndGradientsOnEveryMesh) {
  const std::size_t run = GetParam();
  const Levels levels = levels_of(run);
  const Base base = base_of(levels, name_of(levels));
  const auto chosen = [&](std::size_t mesh, std::size_t mode) {
    const int ranks = runtime().size();
    const std::size_t scalings = ranks <= 2 ? 1 : ranks <= 4 ? 2 : 4;
    return ranks == 1 || ((run + mesh + mode) % golden::kOracleModes == 0 &&
                          (static_cast<std::size_t>(levels[scaling]) + mesh) % scalings == 0);
  };
  golden::expect_oracles_steps({base.model, base.file, kTrainings[levels[training]].change, chosen});
}
INSTANTIATE_TEST_SUITE_P(Llama, ModelOfLlama, testing::Range<std::size_t>(0, kRuns),
                         [](const auto& info) { return name_of(levels_of(info.param)); });

TEST(LlamaOptions, AllOfThemInFullInBf16) {
  const Base base = base_of({3, 0, 0, 1, 1, 1, 1, 1, 1}, "everything");
  golden::expect_oracles_steps({base.model, base.file, bf16_full, [](std::size_t mesh, std::size_t mode) {
                                  return (mesh + mode) % golden::kOracleModes == 0;
                                }});
}

TEST(LlamaOptions, EveryTwoLevelsMeet) {
  for (int first = 0; first < kOptions; ++first)
    for (int second = first + 1; second < kOptions; ++second) {
      std::set<std::pair<int, int>> met;
      for (std::size_t run = 0; run < kRuns; ++run) met.insert({levels_of(run)[first], levels_of(run)[second]});
      const auto count = [](int option) { return option <= key_heads ? 4u : 2u; };
      EXPECT_EQ(met.size(), count(first) * count(second)) << first << " and " << second;
    }
}

}  // namespace
}  // namespace lorashard::core
