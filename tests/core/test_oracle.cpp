// The proof of the oracle: it replays the reference runs of ../shared/golden (float64, public implementations) to the
// last digits, where they have them, and what those runs do not contain is held against differences of its own loss.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

#include "tests/oracle/golden.hpp"
#include "tests/oracle/tensor_file.hpp"

namespace lorashard::oracle {
namespace {

// Both sides compute in double; sums have at most some 1e4 terms in different orders, 20 optimizer steps amplify
// differences by about 1e2 (in float32: 6e-8 becomes 3.3e-6 in adapters). So 1e-16 * 1e4 * 1e2 is the most that
// rounding can explain.
constexpr double kRounding = 1e-10;

// How far from the oracle a reference run may be: relative, but for values and logits.
struct Bounds {
  double loss = kRounding, grad_norm = kRounding, gradient = kRounding, value = kRounding, logits = kRounding;
};
// Whatever a model's type, transformers' Llama computes its norms, softmax, rotary angles and their cosines in float32.
// So those runs are float32 in part; for them ../shared/golden/README.md's line between imprecise and wrong holds.
Bounds bounds_of(const Model& model, bool full) {
  if (!model.shape.llama()) return {};
  return {.loss = 2.6e-6, .grad_norm = 1.5e-5, .gradient = 2.5e-4, .value = full ? 3.3e-3 : 3.3e-5, .logits = 8.9e-5};
}

// The Llama runs once more, in float64 throughout: tests/oracle/llama_in_double.py takes transformers' casts out. (The
// oracle agrees with all of its files to kRounding; here are some of the numbers.)
struct InDouble {
  struct Step {
    std::size_t step;
    double loss, grad_norm;
  };
  std::vector<Step> steps;
  double loss_after;
};
const std::map<std::string, InDouble> kInDouble{
    {"llama/lora_all",
     {{{0, 4.947504899553013, 1.213000938402238},
       {1, 4.9097123974162535, 1.3044819973019424},
       {9, 4.8710058912425165, 0.9806555491540281},
       {19, 4.839712116574904, 0.845165253555062}},
      4.5357847242861045}},
    {"llama/full",
     {{{0, 4.947504899553013, 2.6435740150591402},
       {1, 4.898066407219377, 2.8074651336761227},
       {9, 4.854461695764086, 1.778145160242579},
       {19, 4.759952995080565, 1.169108213625486}},
      4.4018202482586055}},
};

class Golden : public testing::TestWithParam<const char*> {};

std::vector<AdamW::Item> items_of(Model& model, std::vector<Adapter>& adapters, Gradients& gradients, bool full) {
  const std::string& family = model.shape.family;
  const std::vector<Named> weights = full ? named(model) : named(adapters, family);
  const std::vector<Named> values = full ? named(gradients.dense) : named(gradients.adapters, family);
  std::vector<AdamW::Item> items;
  for (std::size_t i = 0; i < weights.size(); ++i)
    items.push_back({weights[i].name, weights[i].array, values[i].array, !full || weights[i].array->rows > 1});
  return items;
}

// The reference has logits of the first two rows with one token more than a batch scores; a causal model's earlier
// positions do not see it.
void expect_logits(const Array& found, const std::string& folder, double bound) {
  constexpr Index kLength = 16;
  const Array expected = read_tensor_file(folder + "/logits.safetensors").at("logits");
  for (Index row : {0, 1}) {
    const Array theirs = rows_of(expected, row * (kLength + 1), kLength);
    EXPECT_LT(largest_difference(rows_of(found, row * kLength, kLength), theirs), bound);
  }
}

// A replay keeps what a reference has: a step's loss and norm, and the loss of the first batch after the last step.
struct Replay {
  std::vector<GoldenStep> steps;
  double loss_after = 0;
};

void expect_in_double(const Replay& found, const InDouble& expected) {
  for (const auto& [step, loss, grad_norm] : expected.steps) {
    EXPECT_NEAR(found.steps.at(step).loss, loss, kRounding * loss) << "step " << step;
    EXPECT_NEAR(found.steps.at(step).grad_norm, grad_norm, kRounding * grad_norm) << "step " << step;
  }
  EXPECT_NEAR(found.loss_after, expected.loss_after, kRounding * expected.loss_after);
}

TEST_P(Golden, IsReplayedToRounding) {
  const auto root = golden_folder();
  if (!root) GTEST_SKIP() << kNoGolden;
  GoldenRun run = read_golden_run(*root + "/" + GetParam());
  const std::string base = run.folder + "/../base";
  Model model = read_golden_base(base);
  const std::vector<Batch> batches = read_golden_batches(base, run.batch);
  Options options;
  options.label_smoothing = run.label_smoothing;
  AdamW optimizer(run.settings);
  ASSERT_EQ(run.steps.size(), batches.size());
  const Bounds bounds = bounds_of(model, run.full);
  Replay replay;

  for (std::size_t step = 0; step < run.steps.size(); ++step) {
    Gradients g = gradients(model, run.adapters, batches[step], options);
    EXPECT_NEAR(g.loss, run.steps[step].loss, bounds.loss * g.loss) << "step " << step;
    EXPECT_NEAR(learning_rate(run.settings, step), run.steps[step].lr, 1e-15);
    const std::vector<AdamW::Item> items = items_of(model, run.adapters, g, run.full);
    if (step == 1) {
      EXPECT_EQ(items.size(), run.gradients_step1.size());
      for (const AdamW::Item& item : items)
        EXPECT_LT(distance(*item.gradient, run.gradients_step1.at(item.name)), bounds.gradient * norm(*item.gradient))
            << item.name;
    }
    const double total = optimizer.step(items);
    EXPECT_NEAR(total, run.steps[step].grad_norm, bounds.grad_norm * total) << "step " << step;
    replay.steps.push_back({g.loss, total, run.steps[step].lr});
  }
  for (const Named& n : run.full ? named(model) : named(run.adapters, model.shape.family))
    EXPECT_LT(largest_difference(*n.array, run.final_values.at(n.name)), bounds.value) << n.name;

  replay.loss_after = loss(model, run.adapters, batches[0], options);
  EXPECT_NEAR(replay.loss_after, run.loss_after, bounds.loss * run.loss_after);
  expect_logits(logits(model, run.adapters, batches[0], {}), run.folder, bounds.logits);
  if (const auto exact = kInDouble.find(GetParam()); exact != kInDouble.end()) expect_in_double(replay, exact->second);
}
INSTANTIATE_TEST_SUITE_P(Gpt2, Golden,
                         testing::Values("gpt2/lora_all", "gpt2/lora_some", "gpt2/lora_qv", "gpt2/full"));
INSTANTIATE_TEST_SUITE_P(Llama, Golden, testing::Values("llama/lora_all", "llama/full"));

// Adapters of every kind on layers of their own rank and alpha, with B away from zero.
std::vector<Adapter> random_adapters(const Shape& shape, std::mt19937& engine) {
  std::normal_distribution<double> normal;
  std::vector<Adapter> adapters;
  const auto add = [&](Index layer, Where where, double alpha, Index rank, Index in, Index out) {
    adapters.push_back({layer, where, alpha, Array(rank, in), Array(out, rank)});
  };
  const Index c = shape.width, f = shape.ffn, q = shape.q_width(), kv = shape.kv_width();
  add(0, Where::qkv, 5, 3, c, q + 2 * kv), add(0, Where::q, 2, 1, c, q), add(0, Where::k, 3, 2, c, kv);
  add(1, Where::v, 8, 4, c, kv), add(1, Where::o, 1, 2, q, c), add(1, Where::up, 4, 2, c, f);
  add(2, Where::down, 6, 3, f, c), add(2, Where::qkv, 2, 2, c, q + 2 * kv);
  if (shape.llama()) add(1, Where::gate, 7, 3, c, f), add(2, Where::gate, 2, 1, c, f);
  for (const Named& n : named(adapters, shape.family))
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

// Along a random direction in each tensor, the slope of the loss by differences at h and 2h on both sides: an error of
// h^4 / 30 times the fifth derivative and of 1e-16 / h from rounding. The steepest thing here is a norm, whose input is
// 0.1 large, so that each derivative is ten times the one before: 1e5 h^4 / 30 = 3e-9 at h = 1e-3. A wrong term is of
// order 1.
void expect_slopes(const Shape& shape, const Options& options) {
  std::mt19937 engine(7);
  std::normal_distribution<double> normal;
  Model model = random_model(shape, 3);
  std::vector<Adapter> adapters = random_adapters(shape, engine);
  const Batch batch = random_batch(3, 5, shape.vocab, engine);
  Gradients g = gradients(model, adapters, batch, options);
  EXPECT_NEAR(g.loss, loss(model, adapters, batch, options), 1e-14);

  std::vector<Named> weights = named(model), slopes = named(g.dense);
  for (const Named& n : named(adapters, shape.family)) weights.push_back(n);
  for (const Named& n : named(g.adapters, shape.family)) slopes.push_back(n);
  ASSERT_EQ(weights.size(), slopes.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    constexpr double h = 1e-3;
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
    const double found = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    values = start;
    EXPECT_NEAR(found, expected / std::sqrt(length), 1e-7) << weights[i].name;
    EXPECT_GT(norm(*slopes[i].array), 1e-4) << weights[i].name << ": too flat to show a mistake";
  }
}

TEST(Oracle, GradientsAreTheSlopesOfItsLoss) {
  expect_slopes({.layers = 3, .width = 8, .heads = 2, .ffn = 20, .vocab = 13, .context = 6}, {});
}

// Each switch of the family by itself, then all of them.
TEST(Oracle, GradientsOfLlamaAreTheSlopesOfItsLoss) {
  const Shape plain{.layers = 3, .width = 8, .heads = 2, .ffn = 20, .vocab = 13, .context = 6, .family = "llama"};
  const auto expect_slopes_with = [&](const char* what, const auto& change) {
    SCOPED_TRACE(what);
    Shape shape = plain;
    change(shape);
    expect_slopes(shape, {});
  };
  expect_slopes_with("plain", [](Shape&) {});
  expect_slopes_with("untied head", [](Shape& s) { s.tied_head = false; });
  expect_slopes_with("grouped heads", [](Shape& s) { s.heads = 4, s.kv_heads = 2; });
  expect_slopes_with("one key/value head", [](Shape& s) { s.heads = 4, s.kv_heads = 1; });
  expect_slopes_with("wide heads", [](Shape& s) { s.head_size = 6; });
  expect_slopes_with("qkv bias", [](Shape& s) { s.qkv_bias = true; });
  expect_slopes_with("normed queries and keys", [](Shape& s) { s.qk_norm = true; });
  expect_slopes_with("window", [](Shape& s) { s.window = 2; });
  expect_slopes_with("neighbours", [](Shape& s) { s.rope_neighbours = true; });
  expect_slopes_with("magnitude", [](Shape& s) { s.rope_magnitude = 1.4; });
  expect_slopes_with("theta", [](Shape& s) { s.rope_theta = 50; });
  expect_slopes_with("scaled positions", [](Shape& s) { s.rope_frequencies = {0.7, 0.3}; });
  for (const bool neighbours : {false, true})
    expect_slopes_with("all of them", [&](Shape& s) {
      s.tied_head = false, s.heads = 6, s.kv_heads = 2, s.head_size = 4, s.qkv_bias = s.qk_norm = true, s.window = 3;
      s.rope_neighbours = neighbours, s.rope_frequencies = {0.9, 0.2}, s.rope_magnitude = 1.3;
    });
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
