// Norms of each layer: those of the values and gradients themselves, on every mesh, and only in the steps that ask.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "core/base_file.hpp"
#include "tests/golden/trial.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::core {
namespace {

constexpr oracle::Shape kShape{.layers = 6, .width = 24, .heads = 12, .ffn = 36, .vocab = 29, .context = 9};
constexpr Index kLength = 7, kBatch = 12;
constexpr int kSteps = 4;
constexpr double kOtherMesh = 2e-5;  // relative, as the golden runs' gradient norms are held

struct Files {
  std::string base, tokens;
};

// Collective.
const Files& files() {
  static const Files made = [] {
    Files f{golden::scratch() + "/base.h5", golden::scratch() + "/tokens.h5"};
    golden::on_rank_0([&] {
      golden::write_base(f.base, oracle::random_model(kShape, 1));
      golden::write_tokens(f.tokens, golden::random_documents(kSteps * kBatch, kLength, kShape.vocab, 3), kShape.vocab);
    });
    return f;
  }();
  return made;
}

Config job(const dist::MeshExtents& mesh, Index every) {
  Config config;
  config.model.base = files().base;
  config.model.shape = BaseFile(files().base).shape();
  config.adapter.rank = 3;
  config.data.length = kLength;
  config.train.steps = kSteps;
  config.train.batch = kBatch;
  config.optimizer.lr = 1e-3;
  config.optimizer.clip = 0.01;  // every step is clipped
  config.mesh.tensor = mesh.tensor;
  config.mesh.pipeline = mesh.pipeline;
  config.mesh.sequence_parallel = mesh.tensor > 1;
  config.device.threads = 1;
  config.run.norms_every = every;
  return config;
}

void separate_ones(Config& config) { config.adapter.targets = {Target::q, Target::v, Target::down}; }
void some_layers_with_a_dense_matrix(Config& config) {
  config.adapter.targets = {Target::qkv, Target::o};
  config.adapter.layers = {0, 2, 5};
  config.adapter.rank_of[Target::o] = kFullRank;
}
void all_dense(Config& config) { config.adapter.method = Method::full; }

// "layers.2.attention.qkv.lora_a": 2; -1 for what is in no layer.
Index layer_of(const std::string& name) { return name.starts_with("layers.") ? std::stoll(name.substr(7)) : -1; }

using ByLayer = std::map<Index, LayerNorms>;

// By definition, from whole tensors.
ByLayer expected_norms(const Trainer& trainer) {
  ByLayer norms;
  const auto add = [](double& square, const Trainer::NamedValues& tensor) {
    for (const float x : tensor.values) square += static_cast<double>(x) * x;
  };
  for (const Trainer::NamedValues& tensor : trainer.gradients()) {
    if (layer_of(tensor.name) >= 0) add(norms[layer_of(tensor.name)].grad_norm, tensor);
  }
  for (const Trainer::NamedValues& tensor : trainer.trained_values()) {
    LayerNorms& layer = norms[layer_of(tensor.name)];
    if (tensor.name.ends_with(".lora_a")) add(layer.a_norm, tensor), layer.adapted = true;
    if (tensor.name.ends_with(".lora_b")) add(layer.b_norm, tensor);
  }
  norms.erase(-1);
  for (auto& [layer, each] : norms)
    for (double* norm : {&each.a_norm, &each.b_norm, &each.grad_norm}) *norm = std::sqrt(*norm);
  return norms;
}

void expect_norms(const std::vector<LayerNorms>& found, const ByLayer& expected, double relative) {
  ASSERT_EQ(found.size(), expected.size());
  auto at = expected.begin();
  for (const LayerNorms& each : found) {
    const auto& [layer, norms] = *at++;
    SCOPED_TRACE(kernels::text("layer ", layer));
    EXPECT_EQ(each.layer, layer);
    EXPECT_EQ(each.adapted, norms.adapted);
    EXPECT_NEAR(each.a_norm, norms.a_norm, relative * norms.a_norm);
    EXPECT_NEAR(each.b_norm, norms.b_norm, relative * norms.b_norm);
    EXPECT_NEAR(each.grad_norm, norms.grad_norm, relative * norms.grad_norm);
    EXPECT_GT(each.grad_norm, 0);
    EXPECT_EQ(each.b_norm > 0, each.adapted);
  }
}

std::string named(const char* what, const dist::MeshExtents& mesh, const Config& config) {
  return std::string(what) + " " + golden::test_name(mesh, config);
}

void expect_norms_on_every_mesh(const char* what, void (*change)(Config&)) {
  constexpr Index kEvery = 2;
  ByLayer on_one_rank;  // after the last step; on rank 0
  std::vector<dist::MeshExtents> meshes = golden::meshes_of(runtime().size());
  meshes.insert(meshes.begin(), dist::MeshExtents{1, 1, 1});
  for (const dist::MeshExtents& extents : meshes) {
    Config config = job(extents, kEvery);
    change(config);
    SCOPED_TRACE(named(what, extents, config));
    const Dataset data(files().tokens, kLength, Order::sequential, 1);
    golden::on_mesh(extents, [&](auto& device, auto& mesh) {
      Trainer trainer(config, device, mesh);
      for (Index step = 0; step < kSteps; ++step) {
        const StepReport report = trainer.step(data);
        if ((step + 1) % kEvery != 0) {
          EXPECT_TRUE(report.layers.empty()) << "step " << step;
          continue;
        }
        const ByLayer expected = expected_norms(trainer);
        // Sums of fewer than 2^13 squares of one sign, in another order.
        expect_norms(report.layers, expected, 0x1p13 * std::numeric_limits<double>::epsilon());
        if (mesh.rank() != 0 || step + 1 != kSteps) continue;
        if (on_one_rank.empty()) on_one_rank = expected;
        expect_norms(report.layers, on_one_rank, kOtherMesh);
      }
    });
  }
}

TEST(LayerNorms, OfAdapters) { expect_norms_on_every_mesh("separate", separate_ones); }
TEST(LayerNorms, OfSomeLayersAndADenseMatrix) {
  expect_norms_on_every_mesh("some layers", some_layers_with_a_dense_matrix);
}
TEST(LayerNorms, OfDenseLayersAreTheirGradients) { expect_norms_on_every_mesh("all dense", all_dense); }

TEST(LayerNorms, OfTwoStepsUnderWayAreApart) {
  for (const dist::MeshExtents& extents : golden::meshes_of(runtime().size())) {
    Config config = job(extents, 1);
    separate_ones(config);
    SCOPED_TRACE(named("under way", extents, config));
    const Dataset data(files().tokens, kLength, Order::sequential, 1);
    golden::on_mesh(extents, [&](auto& device, auto& mesh) {
      Trainer one_by_one(config, device, mesh), ahead(config, device, mesh);
      ahead.begin(data);
      for (Index step = 0; step < kSteps; ++step) {
        if (step + 1 < kSteps) ahead.begin(data);
        const std::vector<LayerNorms> expected = one_by_one.step(data).layers, found = ahead.finish().layers;
        EXPECT_EQ(std::ssize(found), kShape.layers);
        EXPECT_EQ(found, expected) << "step " << step;
      }
    });
  }
}

}  // namespace
}  // namespace lorashard::core
