// The real trainer on random small models against the oracle: loss, gradient norm and every gradient, on every mesh of
// as many ranks as the test runs on, in each of its modes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/base_file.hpp"
#include "core/linear.hpp"
#include "tests/golden/trial.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::core {
namespace {

using golden::NamedArrays;
using golden::on_mesh;
using golden::on_rank_0;
using golden::scratch;

// No tensor extent above 1 divides the length, none above 1 the vocabulary; 12 heads, 6 layers and 12 sequences are
// there for meshes of up to 6 ranks.
constexpr Index kLength = 7, kBatch = 12;
constexpr oracle::Shape kShape{.layers = 6, .width = 24, .heads = 12, .ffn = 36, .vocab = 53, .context = 9};
constexpr Index kDocuments = 41;  // 36 are trained on, all are evaluated
constexpr int kStepsBefore = 2;   // with a large learning rate, so that B is far from zero

struct Job {
  const char* name;
  void (*change)(Config&);
  bool tied_head = true;
};

const Job kJobs[] = {
    {"every_kind",
     [](Config& c) {
       c.adapter.targets = {Target::q, Target::k, Target::v, Target::o, Target::up, Target::down};
       c.adapter.rank_of = {{Target::q, 1}, {Target::up, 5}, {Target::down, 2}};
       c.adapter.alpha_of = {{Target::k, 3}, {Target::o, 16}};
     }},
    {"joint_on_some_layers",
     [](Config& c) {
       c.adapter.targets = {Target::qkv, Target::down};
       c.adapter.layers = {2, 3, 5};
     }},
    {"one_matrix_in_full",
     [](Config& c) {
       c.adapter.targets = {Target::q, Target::v, Target::o, Target::up};
       c.adapter.layers = {1, 4};
       c.adapter.rank_of = {{Target::o, kFullRank}};
     }},
    {"untied_head_smoothing",
     [](Config& c) {
       c.adapter.targets = {Target::qkv, Target::up};
       c.train.label_smoothing = 0.1;
     },
     false},
    {"dropout",
     [](Config& c) {
       c.adapter.targets = {Target::q, Target::v, Target::o, Target::up, Target::down};
       c.adapter.dropout = 0.3;
     }},
    {"full", [](Config& c) { c.adapter.method = Method::full; }},
    {"bf16",
     [](Config& c) {
       c.adapter.targets = {Target::qkv, Target::o, Target::up, Target::down};
       c.train.precision = DType::bf16;
     }},
    {"bf16_full", [](Config& c) { c.adapter.method = Method::full, c.train.precision = DType::bf16; }},
    {"full_untied_head", [](Config& c) { c.adapter.method = Method::full, c.train.label_smoothing = 0.2; }, false},
};

// How a step is cut and what it keeps; chosen so that every value of each occurs with every other.
struct Mode {
  bool sequence_parallel;
  dist::ScheduleKind schedule;
  Index microbatch;
  Recompute recompute;
};
constexpr Mode kModes[] = {
    {false, dist::ScheduleKind::one_f_one_b, 0, Recompute::none},
    {true, dist::ScheduleKind::gpipe, 1, Recompute::selective},
    {true, dist::ScheduleKind::interleaved, 2, Recompute::full},
};

struct Files {
  std::string tied, untied, tokens;
  oracle::Model tied_model, untied_model;
  std::vector<golden::Document> documents;
};

// Collective.
const Files& files() {
  static const Files made = [] {
    oracle::Shape untied = kShape;
    untied.tied_head = false;
    Files f{scratch() + "/tied.h5",
            scratch() + "/untied.h5",
            scratch() + "/tokens.h5",
            oracle::random_model(kShape, 1),
            oracle::random_model(untied, 2),
            golden::random_documents(kDocuments, kLength, kShape.vocab, 3)};
    on_rank_0([&] {
      golden::write_base(f.tied, f.tied_model);
      golden::write_base(f.untied, f.untied_model);
      golden::write_tokens(f.tokens, f.documents, kShape.vocab);
    });
    return f;
  }();
  return made;
}

Config config_of(const Job& job, const Mode& mode, const dist::MeshExtents& extents) {
  Config config;
  config.model.base = job.tied_head ? files().tied : files().untied;
  config.model.shape = BaseFile(config.model.base).shape();
  config.adapter.rank = 3;
  config.adapter.alpha = 6;
  config.adapter.seed = 11;
  job.change(config);
  config.data.length = kLength;
  config.data.order = Order::sequential;
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
  // 6 layers make 6 model parts at most.
  config.mesh.chunks = mode.schedule == dist::ScheduleKind::interleaved ? std::max(1, 6 / extents.pipeline) : 1;
  config.device.threads = 1;
  return config;
}

struct Place {
  oracle::Where where;
  Target target;
  const char* linear;
};
constexpr Place kPlaces[] = {
    {oracle::Where::q, Target::q, "attention.qkv"}, {oracle::Where::k, Target::k, "attention.qkv"},
    {oracle::Where::v, Target::v, "attention.qkv"}, {oracle::Where::qkv, Target::qkv, "attention.qkv"},
    {oracle::Where::o, Target::o, "attention.o"},   {oracle::Where::up, Target::up, "mlp.up"},
    {oracle::Where::down, Target::down, "mlp.down"},
};

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

Twin twin_of(const Job& job, const Config& config, const NamedArrays& values) {
  Twin twin{job.tied_head ? files().tied_model : files().untied_model, {}};
  for (const oracle::Named& n : named(twin.model))
    if (const auto found = values.find(n.name); found != values.end()) *n.array = found->second;
  if (config.train.precision == DType::bf16) round_matrices(twin.model);
  for (Index layer = 0; layer < kShape.layers; ++layer)
    for (const Place& place : kPlaces) {
      const std::string name = oracle::name_of(layer, place.where);
      if (!values.count(name + ".lora_a")) continue;
      const auto alpha = config.adapter.alpha_of.find(place.target);
      twin.adapters.push_back({layer, place.where,
                               alpha == config.adapter.alpha_of.end() ? config.adapter.alpha : alpha->second,
                               values.at(name + ".lora_a"), values.at(name + ".lora_b")});
    }
  return twin;
}

// The mask that dropout_key() and DropoutMask document, element by element.
oracle::Options options_of(const Config& config, Index step) {
  oracle::Options options;
  options.label_smoothing = config.train.label_smoothing;
  const double p = config.adapter.dropout;
  if (p == 0) return options;
  std::map<std::pair<Index, oracle::Where>, kernels::RandomKey> keys;
  for (Index layer = 0; layer < kShape.layers; ++layer)
    for (const Place& place : kPlaces)
      keys[{layer, place.where}] =
          dropout_key(config.adapter.seed, kernels::text("layers.", layer, ".", place.linear), step);
  options.dropout = [=](const oracle::Adapter& adapter, Index row, Index col) {
    const auto index = static_cast<std::uint64_t>(row * adapter.a.cols + col);
    return kernels::uniform(keys.at({adapter.layer, adapter.where}), index) < static_cast<float>(p) ? 0.0 : 1 / (1 - p);
  };
  return options;
}

// A sum of n products in f32 errs by at most n eps of its terms (Higham 2002, section 3.1), and along a path through
// the model these add up: forward and backward through every layer's four products, attention and norms, the head, and
// the sum over the tokens of the batch. A tensor whose gradient is small because terms cancel is measured against 1 % of
// the whole gradient's norm.
//
// In bf16 every activation and its gradient are rounded as they are stored, by up to 2^-9: 8 forward and 10 backward in
// a layer. Such errors are as good as independent, and n of them stay within 4 sqrt(n) times one (Higham and Mary 2019,
// theorem 2.4, with lambda = 4).
double relative_bound(DType precision) {
  if (precision == DType::bf16) return 4 * std::sqrt(18.0 * kShape.layers + 4) * std::ldexp(1.0, -9);
  const double c = kShape.width, f = kShape.ffn, d = c / kShape.heads, layers = kShape.layers;
  const double layer = (c + d + kLength + c + c + f + 2 * c) + (f + c + kLength + d + 3 * c + 2 * c);
  const double path = layers * layer + 2 * (c + kShape.vocab) + kBatch * kLength;
  return path * std::ldexp(1.0, -24);
}

void expect_gradients(const NamedArrays& found, const NamedArrays& weights, const Twin& twin,
                      const oracle::Gradients& g, double norm_of_all, double bound) {
  oracle::Gradients expected = g;
  NamedArrays known;
  for (const oracle::Named& n : named(expected.dense)) known[n.name] = *n.array;
  for (const oracle::Named& n : named(expected.adapters)) known[n.name] = *n.array;
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

void compare(const Job& job, const Config& config, kernels::Device& device, dist::Mesh& mesh) {
  Trainer trainer(config, device, mesh);
  const Dataset data(files().tokens, kLength, Order::sequential, 1);
  EXPECT_EQ(data.rows(), kDocuments);
  for (int i = 0; i < kStepsBefore; ++i) trainer.step(data);
  const NamedArrays weights = golden::by_name(trainer.trained_values());
  const Evaluation evaluation = trainer.evaluate(data);
  const StepReport report = trainer.step(data);
  const NamedArrays found = golden::by_name(trainer.gradients());

  expect_same_on_all_ranks(found, mesh);
  if (mesh.rank() != 0) return;  // the oracle needs no peers

  const double bound = relative_bound(config.train.precision);
  const Twin twin = twin_of(job, config, weights);
  const oracle::Batch batch = golden::batch_of(files().documents, kStepsBefore * kBatch, kBatch, kLength);
  const oracle::Gradients expected =
      oracle::gradients(twin.model, twin.adapters, batch, options_of(config, kStepsBefore));
  const oracle::Batch everything = golden::batch_of(files().documents, 0, kDocuments, kLength);
  const double expected_evaluation = oracle::loss(twin.model, twin.adapters, everything);  // no smoothing, no dropout
  EXPECT_NEAR(evaluation.loss, expected_evaluation, bound * expected_evaluation);
  EXPECT_EQ(evaluation.scored, std::ranges::count_if(everything.labels, [](int label) { return label != -100; }));
  double squares = 0;
  for (const auto& [name, array] : found) squares += norm(array) * norm(array);
  EXPECT_NEAR(report.loss, expected.loss, bound * expected.loss);
  EXPECT_NEAR(report.grad_norm, std::sqrt(squares), 1e-6 * std::sqrt(squares));
  expect_gradients(found, weights, twin, expected, std::sqrt(squares), bound);
}

class Model : public testing::TestWithParam<std::size_t> {};

// Every mode on up to two ranks; on more, each mesh takes turns, so that it meets every mode in some job.
bool chosen(std::size_t job, std::size_t mesh, std::size_t mode) {
  return runtime().size() <= 2 || (job + mesh + mode) % std::size(kModes) == 0;
}

TEST_P(Model, HasTheOraclesLossAndGradientsOnEveryMesh) {
  const std::size_t job = GetParam();
  const std::vector<dist::MeshExtents> meshes = golden::meshes_of(runtime().size());
  for (std::size_t m = 0; m < meshes.size(); ++m)
    for (std::size_t mode = 0; mode < std::size(kModes); ++mode) {
      if (!chosen(job, m, mode)) continue;
      const Config config = config_of(kJobs[job], kModes[mode], meshes[m]);
      SCOPED_TRACE(golden::test_name(meshes[m], config));
      on_mesh(meshes[m], [&](kernels::Device& device, dist::Mesh& mesh) { compare(kJobs[job], config, device, mesh); });
    }
}
INSTANTIATE_TEST_SUITE_P(Gpt2, Model, testing::Range<std::size_t>(0, std::size(kJobs)),
                         [](const auto& info) { return kJobs[info.param].name; });

}  // namespace
}  // namespace lorashard::core
