#include "tests/golden/oracle_run.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/base_file.hpp"
#include "core/family.hpp"
#include "core/linear.hpp"
#include "kernels/numbers.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::golden {
namespace {

using core::Config;
using core::Recompute;
using kernels::DType;
using oracle::Where;

constexpr Index kBatch = 12;
constexpr Index kDocuments = 41;  // 36 are trained on, all are evaluated
constexpr int kStepsBefore = 2;   // with a large learning rate, so that B is far from zero
constexpr Where kPlaces[] = {Where::q, Where::k, Where::v, Where::qkv, Where::o, Where::gate, Where::up, Where::down};

// Chosen so that every value of each occurs with every other.
struct Mode {
  bool sequence_parallel;
  dist::ScheduleKind schedule;
  Index microbatch;
  Recompute recompute;
};
constexpr Mode kModes[kOracleModes] = {
    {false, dist::ScheduleKind::one_f_one_b, 0, Recompute::none},
    {true, dist::ScheduleKind::gpipe, 1, Recompute::selective},
    {true, dist::ScheduleKind::interleaved, 2, Recompute::full},
};

struct Rows {
  std::vector<Document> documents;
  std::string file;
};

// Collective.
const Rows& rows() {
  static const Rows made = [] {
    const Index vocab = oracle_shape().vocab;
    Rows r{random_documents(kDocuments, kOracleLength, vocab, 3), scratch() + "/oracle_rows.h5"};
    on_rank_0([&] { write_tokens(r.file, r.documents, vocab); });
    return r;
  }();
  return made;
}

Config config_of(const OracleCase& c, const Mode& mode, const dist::MeshExtents& extents) {
  Config config;
  config.model.base = c.base;
  config.model.shape = core::BaseFile(c.base).shape();
  config.adapter.rank = 3;
  config.adapter.alpha = 6;
  config.adapter.seed = 11;
  c.change(config);
  config.data.length = kOracleLength;
  config.data.order = core::Order::sequential;
  config.train.steps = 8;
  config.train.batch = kBatch;
  const Index share = kBatch / extents.data;
  config.train.microbatch = mode.microbatch == 2 && share % 2 != 0 ? share : mode.microbatch;
  config.train.recompute = mode.recompute;
  config.optimizer.lr = 0.02;
  config.mesh.tensor = extents.tensor;
  config.mesh.pipeline = extents.pipeline;
  config.mesh.sequence_parallel = mode.sequence_parallel;
  config.mesh.schedule = mode.schedule;
  const int layers = static_cast<int>(config.model.shape.layers);  // as many model parts at most
  config.mesh.chunks = mode.schedule == dist::ScheduleKind::interleaved ? std::max(1, layers / extents.pipeline) : 1;
  config.device.threads = 1;
  return config;
}

// The trainer's values as the oracle's model and adapters; alpha as the job says it.
struct Twin {
  oracle::Model model;
  std::vector<oracle::Adapter> adapters;
};
// The trainer multiplies with bf16 copies of all dense matrices; adapters and vectors stay f32.
void round_matrices(oracle::Model& model) {
  for (const oracle::Named& n : named(model))
    if (n.array->rows > 1)
      for (double& x : n.array->values) x = kernels::to_float(kernels::to_bf16(static_cast<float>(x)));
}

Twin twin_of(const oracle::Model& model, const Config& config, const NamedArrays& values) {
  Twin twin{model, {}};
  for (const oracle::Named& n : named(twin.model))
    if (const auto found = values.find(n.name); found != values.end()) *n.array = found->second;
  if (config.train.precision == DType::bf16) round_matrices(twin.model);
  for (Index layer = 0; layer < model.shape.layers; ++layer)
    for (const Where where : kPlaces) {
      const std::string name = oracle::name_of(layer, where, model.shape.family);
      if (!values.count(name + ".lora_a")) continue;
      const auto alpha = config.adapter.alpha_of.find(target_of(where));
      twin.adapters.push_back({layer, where,
                               alpha == config.adapter.alpha_of.end() ? config.adapter.alpha : alpha->second,
                               values.at(name + ".lora_a"), values.at(name + ".lora_b")});
    }
  return twin;
}

// The mask that dropout_key() and DropoutMask document, element by element. Adapters on one linear layer share it.
oracle::Options options_of(const Config& config, const std::vector<oracle::Adapter>& adapters, Index step) {
  oracle::Options options;
  options.label_smoothing = config.train.label_smoothing;
  const double p = config.adapter.dropout;
  if (p == 0) return options;
  std::map<std::pair<Index, Where>, kernels::RandomKey> keys;
  for (const oracle::Adapter& a : adapters) {
    const std::string linear = place_of(family_of(config.model.shape), target_of(a.where)).linear;
    keys[{a.layer, a.where}] =
        core::dropout_key(config.adapter.seed, kernels::text("layers.", a.layer, ".", linear), step);
  }
  options.dropout = [=](const oracle::Adapter& adapter, Index row, Index col) {
    const auto index = static_cast<std::uint64_t>(row * adapter.a.cols + col);
    return kernels::uniform(keys.at({adapter.layer, adapter.where}), index) < static_cast<float>(p) ? 0.0 : 1 / (1 - p);
  };
  return options;
}

// A sum of n products in f32 errs by at most n eps of its terms (Higham 2002, section 3.1), and along a path through
// the model these add up: forward and backward through every layer's products, attention and norms, the head, and the
// sum over the tokens of the batch. A rotation adds three roundings, one each of cosine and sine, and that of its
// angle, which is t times the rounding of a frequency of at most 1; the gradient of a key sums over the queries of its
// group. A tensor whose gradient is small because terms cancel is measured against 1 % of the whole gradient's norm.
//
// In bf16 every activation and its gradient are rounded as they are stored, by up to 2^-9: 8 forward and 10 backward in
// a layer of GPT-2; Llama's stores its turned queries and keys, what is normed of them, and the gradient between down
// and the gate as well. Such errors are as good as independent, and n of them stay within 4 sqrt(n) times one (Higham
// and Mary 2019, theorem 2.4, with lambda = 4).
double relative_bound(const oracle::Shape& s, DType precision) {
  const auto layers = static_cast<double>(s.layers);
  if (precision == DType::bf16) {
    const double stored = 18 + (s.llama() ? 3 : 0) + (s.qk_norm ? 2 : 0);
    return 4 * std::sqrt(stored * layers + 4) * std::ldexp(1.0, -9);
  }
  const double c = s.width, f = s.ffn, d = s.d(), t = kOracleLength;
  const double of_a_key = t * static_cast<double>(s.q_width()) / static_cast<double>(s.kv_width());
  const double turned = s.llama() ? 2 * (t + 5) : 0, normed = s.qk_norm ? 2 * d : 0;
  const double forward = c + d + t + static_cast<double>(s.q_width()) + c + f + 2 * c;
  const double up = s.up_width(), qkv = s.qkv_width();
  const double backward = up + c + of_a_key + d + qkv + 2 * c;
  const double path = layers * (forward + backward + turned + normed) + 2 * (c + s.vocab) + kBatch * kOracleLength;
  return path * std::ldexp(1.0, -24);
}

void expect_gradients(const NamedArrays& found, const NamedArrays& weights, const Twin& twin,
                      const oracle::Gradients& g, double norm_of_all, double bound) {
  oracle::Gradients expected = g;
  NamedArrays known;
  for (const oracle::Named& n : named(expected.dense)) known[n.name] = *n.array;
  for (const oracle::Named& n : named(expected.adapters, twin.model.shape.family)) known[n.name] = *n.array;
  EXPECT_EQ(found.size(), weights.size());
  EXPECT_FALSE(found.empty());
  for (const auto& [name, array] : found) {
    EXPECT_TRUE(weights.count(name)) << name;
    ASSERT_TRUE(known.count(name)) << name << " is no tensor of the model with " << twin.adapters.size() << " adapters";
    EXPECT_LE(distance(array, known[name]), bound * std::max(norm(known[name]), 0.01 * norm_of_all)) << name;
  }
}

// What every rank holds whole must be one and the same, bit for bit: a digest of it is.
void expect_same_on_all_ranks(const NamedArrays& values, dist::Mesh& mesh) {
  std::vector<double> sums;
  for (const auto& [name, array] : values) {
    double sum = 0;
    for (std::size_t i = 0; i < array.values.size(); ++i) sum += static_cast<double>(i + 1) * array.values[i];
    sums.push_back(sum);
  }
  const std::vector<double> all = mesh.world().gather_values(sums);
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], sums[i % sums.size()]) << "rank " << i / sums.size();
}

void compare(const oracle::Model& model, const Config& config, kernels::Device& device, dist::Mesh& mesh) {
  core::Trainer trainer(config, device, mesh);
  const core::Dataset data(rows().file, kOracleLength, core::Order::sequential, 1);
  EXPECT_EQ(data.rows(), kDocuments);
  for (int i = 0; i < kStepsBefore; ++i) trainer.step(data);
  const NamedArrays weights = by_name(trainer.trained_values());
  const core::Evaluation evaluation = trainer.evaluate(data);
  const core::StepReport report = trainer.step(data);
  const NamedArrays found = by_name(trainer.gradients());

  expect_same_on_all_ranks(found, mesh);
  if (mesh.rank() != 0) return;  // the oracle needs no peers

  const double bound = relative_bound(model.shape, config.train.precision);
  const Twin twin = twin_of(model, config, weights);
  const oracle::Batch batch = batch_of(rows().documents, kStepsBefore * kBatch, kBatch, kOracleLength);
  const oracle::Gradients expected =
      oracle::gradients(twin.model, twin.adapters, batch, options_of(config, twin.adapters, kStepsBefore));
  const oracle::Batch everything = batch_of(rows().documents, 0, kDocuments, kOracleLength);
  const double expected_evaluation = oracle::loss(twin.model, twin.adapters, everything);  // no smoothing, no dropout
  EXPECT_NEAR(evaluation.loss, expected_evaluation, bound * expected_evaluation);
  EXPECT_EQ(evaluation.scored, std::ranges::count_if(everything.labels, [](int label) { return label != -100; }));
  double squares = 0;
  for (const auto& [name, array] : found) squares += norm(array) * norm(array);
  EXPECT_NEAR(report.loss, expected.loss, bound * expected.loss);
  EXPECT_NEAR(report.grad_norm, std::sqrt(squares), 1e-6 * std::sqrt(squares));
  expect_gradients(found, weights, twin, expected, std::sqrt(squares), bound);
}

}  // namespace

oracle::Shape oracle_shape() { return {.layers = 6, .width = 24, .heads = 12, .ffn = 36, .vocab = 53, .context = 9}; }

void expect_oracles_steps(const OracleCase& c) {
  const std::vector<dist::MeshExtents> meshes = meshes_of(runtime().size());
  for (std::size_t m = 0; m < meshes.size(); ++m)
    for (std::size_t mode = 0; mode < kOracleModes; ++mode) {
      if (!c.chosen(m, mode)) continue;
      const Config config = config_of(c, kModes[mode], meshes[m]);
      SCOPED_TRACE(test_name(meshes[m], config));
      on_mesh(meshes[m], [&](kernels::Device& device, dist::Mesh& mesh) { compare(c.model, config, device, mesh); });
    }
}

}  // namespace lorashard::golden
