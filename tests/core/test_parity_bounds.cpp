// What the certificate allows: AdamW's bound holds for every change of the gradients that it is told of, and is not so
// wide that it says nothing; weights are measured against what they do.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "core/parity_bounds.hpp"
#include "core/parity_record.hpp"

namespace lorashard::core {
namespace {

constexpr std::size_t kElements = 400;
constexpr double kLearningRate = 1e-3;

// Loshchilov and Hutter 2019, algorithm 2, in double, without decay.
class Reference {
 public:
  explicit Reference(const OptimizerConfig& config) : config_(config), m_(kElements), v_(kElements), w(kElements) {}
  void step(const std::vector<double>& g) {
    ++t_;
    for (std::size_t i = 0; i < kElements; ++i) {
      m_[i] = config_.beta1 * m_[i] + (1 - config_.beta1) * g[i];
      v_[i] = config_.beta2 * v_[i] + (1 - config_.beta2) * g[i] * g[i];
      const double m = m_[i] / (1 - std::pow(config_.beta1, t_)), v = v_[i] / (1 - std::pow(config_.beta2, t_));
      w[i] -= kLearningRate * m / (std::sqrt(v) + config_.eps);
    }
  }

 private:
  OptimizerConfig config_;
  std::vector<double> m_, v_;
  int t_ = 0;

 public:
  std::vector<double> w;
};

TEST(ParityBounds, AdamBoundsHold) {
  OptimizerConfig config;
  config.clip = 0;
  std::mt19937 engine(1);
  std::normal_distribution<double> normal;
  for (const double error : {1e-5, 1e-2, 0.3, 3.0}) {
    SCOPED_TRACE(error);
    AdamBounds bounds(config, kElements);
    Reference one(config), other(config);
    double most = 0;
    for (int step = 0; step < 4; ++step) {
      std::vector<float> gradient(kElements);
      std::vector<double> g(kElements), changed(kElements), bound(kElements), allowed;
      for (std::size_t i = 0; i < kElements; ++i) {
        g[i] = gradient[i] = static_cast<float>(normal(engine));
        bound[i] = error;
        changed[i] = g[i] + (engine() % 2 ? error : -error);  // the ends of what is allowed
      }
      one.step(g), other.step(changed);
      bounds.add_step(kLearningRate, 1, 0, gradient, bound, std::vector<float>(one.w.begin(), one.w.end()));
      for (std::size_t i = 0; i < kElements; ++i) {
        const double moved = std::abs(one.w[i] - other.w[i]);
        ASSERT_LE(moved, bounds.bounds()[i]) << "step " << step << ", element " << i;
        most = std::max(most, moved / bounds.bounds()[i]);
      }
    }
    EXPECT_GT(most, 0.25);  // some element uses a good part of it
  }
}

// The clipping factor differs with the norm, and moves elements whose gradient is exact.
TEST(ParityBounds, ClippingCounts) {
  OptimizerConfig config;
  config.clip = 1;
  const std::vector<float> gradient(kElements, 1.0f), weights(kElements, 0.0f);
  const std::vector<double> exact(kElements, 0.0);
  AdamBounds unclipped(config, kElements), clipped(config, kElements);
  unclipped.add_step(kLearningRate, 0.5, 0.1, gradient, exact, weights);
  clipped.add_step(kLearningRate, 20, 0.1, gradient, exact, weights);
  EXPECT_LT(unclipped.bounds()[0], 1e-5 * kLearningRate);
  EXPECT_GT(clipped.bounds()[0], 0.1 * kLearningRate);
}

TEST(ParityBounds, AFactorIsFarOutsideInBothPrecisions) {
  Config config;
  ModelShape& shape = config.model.shape;
  shape.layers = 12, shape.width = 768, shape.heads = shape.kv_heads = 12, shape.ffn = 3072;
  shape.vocab = 50257, shape.context = config.data.length = 1024;
  const dist::MeshExtents extents{4, 1, 8};
  EXPECT_LT(kElementFactor * relative_error(config, extents), 5e-4);
  EXPECT_GT(relative_error(config, extents),
            std::sqrt(1024.0) * std::ldexp(1.0, -24));  // the length of one of its sums
  config.train.precision = kernels::DType::bf16;
  EXPECT_LT(kMeanFactor * relative_error(config, extents), 0.25);
  EXPECT_GT(relative_error(config, extents), std::sqrt(12.0) * std::ldexp(1.0, -9));
}

Trainer::NamedValues tensor(const std::string& name, Index rows, Index cols, float value) {
  return {name, rows, cols, std::vector<float>(static_cast<std::size_t>(rows * cols), value)};
}

TEST(ParityBounds, DriftOfABiasCountsAgainstItsMatrix) {
  const std::vector<Trainer::NamedValues> a{tensor("up.weight", 2, 16, 0.5f), tensor("up.bias", 1, 2, 0)};
  auto b = a;
  EXPECT_EQ(drift(a, b), 0);
  b[1] = tensor("up.bias", 1, 2, 0.02f);
  EXPECT_NEAR(drift(a, b), 2 * 0.02 / (0.5 * 4), 1e-8);  // sqrt(16) = 4
  b[0] = tensor("up.weight", 2, 16, 0.505f);
  EXPECT_NEAR(drift(a, b), 2 * std::hypot(0.01, 0.01), 1e-6);
}

TEST(ParityBounds, ALargeRowAllowsItsElementsMore) {
  Trainer::NamedValues gradient = tensor("g", 4, 4, 1);
  for (int j = 0; j < 4; ++j) gradient.values[j] = 100;
  gradient.values[0] = 0;  // its terms cancel
  const std::vector<double> magnitudes = magnitudes_of(gradient, 0);
  EXPECT_GT(magnitudes[0], 1);
  EXPECT_EQ(magnitudes[1], 100);
  EXPECT_LT(magnitudes[5], 100);
  EXPECT_EQ(magnitudes_of(tensor("z", 2, 2, 0), 0.5), std::vector<double>(4, 0.5));
}

// One step of a model of a single tensor.
ParityRecord record() {
  ParityRecord record;
  record.start = record.begun = {tensor("w", 2, 3, 1)};
  record.start_copies = record.end_copies = {{"w", 0, 0}};
  ParityStep step;
  step.losses = {2}, step.norms = {std::sqrt(6.0)}, step.lr = kLearningRate;
  step.gradients = {tensor("w", 2, 3, 1)};
  step.values = {tensor("w", 2, 3, 0.999f)};
  record.steps = {step};
  return record;
}

// The first of the comparisons that fails, as its verdict names it; empty when all hold.
std::string first_failure(const ParityRecord& mesh) {
  ParityReport report;
  Config config;
  ModelShape& shape = config.model.shape;
  shape.layers = 1, shape.width = shape.ffn = shape.vocab = 4, shape.heads = shape.kv_heads = 2;
  compare_records(mesh, record(), config, {2, 1, 1}, report);
  for (const ParityComparison& c : report.comparisons)
    if (!c.holds()) return c.what() + (c.note.empty() ? "" : ": " + c.note);
  return "";
}

TEST(ParityRecords, NameWhatDiffers) {
  EXPECT_EQ(first_failure(record()), "");
  ParityRecord mesh = record();
  mesh.start[0].name = "v";
  EXPECT_EQ(first_failure(mesh), "tensor of w: on the mesh v stands there");
  mesh.start = {tensor("w", 3, 2, 1)};
  EXPECT_EQ(first_failure(mesh), "tensor of w: 3x2 on the mesh, 2x3 on one rank");
  mesh.start.clear();
  EXPECT_EQ(first_failure(mesh), "tensor of w: missing on the mesh");
  mesh.start = {tensor("w", 2, 3, 1), tensor("x", 1, 1, 1)};
  EXPECT_EQ(first_failure(mesh), "tensor of x: on the mesh alone");
  mesh = record();
  mesh.end_copies[0] = {"w", 1e-9, 5};
  EXPECT_EQ(first_failure(mesh), "copies of w after the last step: rank 5 holds another copy than its stage's first");
  mesh = record();
  mesh.steps[0].losses.push_back(2.1);
  EXPECT_EQ(first_failure(mesh), "loss, step 0: rank 1 found 2.1, expected 2");
  mesh = record();
  mesh.steps[0].values[0].values[4] = 1;  // one element was not updated
  EXPECT_EQ(first_failure(mesh), "values of w after step 0");
}

TEST(ParityRecords, NoNumberNeverHolds) {
  const float no_number = std::numeric_limits<float>::quiet_NaN();
  for (const std::size_t at : {0, 3, 5}) {
    ParityRecord mesh = record();
    mesh.steps[0].gradients[0].values[at] = no_number;
    EXPECT_EQ(first_failure(mesh), "gradient of w, step 0");
    mesh = record();
    mesh.steps[0].values[0].values[at] = no_number;
    EXPECT_EQ(first_failure(mesh), "values of w after step 0");
    mesh = record();
    mesh.start[0].values[at] = no_number;
    EXPECT_EQ(first_failure(mesh), "initial values of w");
  }
}

}  // namespace
}  // namespace lorashard::core
