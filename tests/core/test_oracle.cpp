// The proof of the oracle: it replays the reference runs of ../shared/golden (float64, public implementations) to the
// last digits, and what those runs do not contain is held against central differences of its own loss.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/oracle/golden.hpp"
#include "tests/oracle/tensor_file.hpp"

namespace lorashard::oracle {
namespace {

// Both sides compute in double; sums have at most some 1e4 terms in different orders, 20 optimizer steps amplify
// differences by about 1e2 (in float32: 6e-8 becomes 3.3e-6 in adapters). So 1e-16 * 1e4 * 1e2 is the most that
// rounding can explain.
constexpr double kRounding = 1e-10;

class Golden : public testing::TestWithParam<const char*> {};

std::vector<AdamW::Item> items_of(Model& model, std::vector<Adapter>& adapters, Gradients& gradients, bool full) {
  const std::vector<Named> weights = full ? named(model) : named(adapters);
  const std::vector<Named> values = full ? named(gradients.dense) : named(gradients.adapters);
  std::vector<AdamW::Item> items;
  for (std::size_t i = 0; i < weights.size(); ++i)
    items.push_back({weights[i].name, weights[i].array, values[i].array, !full || weights[i].array->rows > 1});
  return items;
}

// The reference has logits of the first two rows with one token more than a batch scores; a causal model's earlier
// positions do not see it.
void expect_logits(const Array& found, const std::string& folder) {
  constexpr Index kLength = 16;
  const Array expected = read_tensor_file(folder + "/logits.safetensors").at("logits");
  for (Index row : {0, 1}) {
    const Array theirs = rows_of(expected, row * (kLength + 1), kLength);
    EXPECT_LT(largest_difference(rows_of(found, row * kLength, kLength), theirs), kRounding);
  }
}

TEST_P(Golden, IsReplayedToRounding) {
  const auto root = golden_folder();
  if (!root) GTEST_SKIP() << kNoGolden;
  GoldenRun run = read_golden_run(*root + "/gpt2/" + GetParam());
  Model model = read_golden_base(*root + "/gpt2/base");
  const std::vector<Batch> batches = read_golden_batches(*root + "/gpt2/base", run.batch);
  Options options;
  options.label_smoothing = run.label_smoothing;
  AdamW optimizer(run.settings);
  ASSERT_EQ(run.steps.size(), batches.size());

  for (std::size_t step = 0; step < run.steps.size(); ++step) {
    Gradients g = gradients(model, run.adapters, batches[step], options);
    EXPECT_NEAR(g.loss, run.steps[step].loss, kRounding * g.loss) << "step " << step;
    EXPECT_NEAR(learning_rate(run.settings, step), run.steps[step].lr, 1e-15);
    const std::vector<AdamW::Item> items = items_of(model, run.adapters, g, run.full);
    if (step == 1) {
      EXPECT_EQ(items.size(), run.gradients_step1.size());
      for (const AdamW::Item& item : items)
        EXPECT_LT(distance(*item.gradient, run.gradients_step1.at(item.name)), kRounding * norm(*item.gradient))
            << item.name;
    }
    const double total = optimizer.step(items);
    EXPECT_NEAR(total, run.steps[step].grad_norm, kRounding * total) << "step " << step;
  }
  for (const Named& n : run.full ? named(model) : named(run.adapters))
    EXPECT_LT(largest_difference(*n.array, run.final_values.at(n.name)), kRounding) << n.name;

  EXPECT_NEAR(loss(model, run.adapters, batches[0], options), run.loss_after, kRounding * run.loss_after);
  expect_logits(logits(model, run.adapters, batches[0], {}), run.folder);
}
INSTANTIATE_TEST_SUITE_P(Gpt2, Golden, testing::Values("lora_all", "lora_some", "lora_qv", "full"));

// Adapters of every kind on layers of their own rank and alpha, with B away from zero.
std::vector<Adapter> random_adapters(const Shape& shape, std::mt19937& engine) {
  std::normal_distribution<double> normal;
  std::vector<Adapter> adapters;
  const auto add = [&](Index layer, Where where, double alpha, Index rank, Index in, Index out) {
    adapters.push_back({layer, where, alpha, Array(rank, in), Array(out, rank)});
  };
  const Index c = shape.width, f = shape.ffn;
  add(0, Where::qkv, 5, 3, c, 3 * c), add(0, Where::q, 2, 1, c, c), add(0, Where::k, 3, 2, c, c);
  add(1, Where::v, 8, 4, c, c), add(1, Where::o, 1, 2, c, c), add(1, Where::up, 4, 2, c, f);
  add(2, Where::down, 6, 3, f, c), add(2, Where::qkv, 2, 2, c, 3 * c);
  for (const Named& n : named(adapters))
    for (double& x : n.array->values) x = 0.3 * normal(engine);
  return adapters;
}

Batch random_batch(Index rows, Index length, Index vocab, std::mt19937& engine) {
  Batch batch{length, {}, {}};
  for (Index i = 0; i < rows * length; ++i) {
    batch.ids.push_back(static_cast<std::int32_t>(engine() % vocab));
    batch.labels.push_back(engine() % 4 ? static_cast<std::int32_t>(engine() % vocab) : -100);
  }
  return batch;
}

// Along a random direction in each tensor, the slope of the loss by central differences of step h: an error of h^2 from
// the third derivative and of 1e-16 / h from rounding, so 1e-8 at best near h = 1e-4; a wrong term is of order 1.
void expect_slopes(const Shape& shape, const Options& options) {
  std::mt19937 engine(7);
  std::normal_distribution<double> normal;
  Model model = random_model(shape, 3);
  std::vector<Adapter> adapters = random_adapters(shape, engine);
  const Batch batch = random_batch(3, 5, shape.vocab, engine);
  Gradients g = gradients(model, adapters, batch, options);
  EXPECT_NEAR(g.loss, loss(model, adapters, batch, options), 1e-14);

  std::vector<Named> weights = named(model), slopes = named(g.dense);
  for (const Named& n : named(adapters)) weights.push_back(n);
  for (const Named& n : named(g.adapters)) slopes.push_back(n);
  ASSERT_EQ(weights.size(), slopes.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    constexpr double h = 1e-4;
    std::vector<double>& values = weights[i].array->values;
    const std::vector<double> start = values;
    std::vector<double> direction(values.size());
    double expected = 0, length = 0;
    for (std::size_t j = 0; j < values.size(); ++j) {
      direction[j] = normal(engine);
      expected += direction[j] * slopes[i].array->values[j];
      length += direction[j] * direction[j];
    }
    const auto at = [&](double distance) {
      const double factor = distance / std::sqrt(length);
      for (std::size_t j = 0; j < values.size(); ++j) values[j] = start[j] + factor * direction[j];
      return loss(model, adapters, batch, options);
    };
    const double found = (at(h) - at(-h)) / (2 * h);
    values = start;
    EXPECT_NEAR(found, expected / std::sqrt(length), 1e-7) << weights[i].name;
    EXPECT_GT(norm(*slopes[i].array), 1e-4) << weights[i].name << ": too flat to show a mistake";
  }
}

TEST(Oracle, GradientsAreTheSlopesOfItsLoss) {
  expect_slopes({.layers = 3, .width = 8, .heads = 2, .ffn = 20, .vocab = 13, .context = 6}, {});
}

TEST(Oracle, GradientsAreTheSlopesWithUntiedHeadSmoothingAndDropout) {
  Options options;
  options.label_smoothing = 0.2;
  options.dropout = [](const Adapter& adapter, Index row, Index col) {
    return (row * 7 + col * 3 + adapter.layer + static_cast<int>(adapter.where)) % 4 ? 4.0 / 3.0 : 0.0;
  };
  expect_slopes({.layers = 3, .width = 6, .heads = 3, .ffn = 10, .vocab = 11, .context = 5, .tied_head = false},
                options);
}

}  // namespace
}  // namespace lorashard::oracle
