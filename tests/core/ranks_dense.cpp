// Full fine-tuning's gradients, summed over the data ranks: each once, and a layer's as soon as it is done.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "core/optimizer.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::core {
namespace {

Config full_job() {
  Config config;
  config.model.shape.layers = 3;
  config.model.shape.width = 8;
  config.model.shape.heads = 2;
  config.model.shape.kv_heads = 2;
  config.model.shape.ffn = 12;
  config.model.shape.vocab = 11;
  config.model.shape.context = 4;
  config.adapter.method = Method::full;
  return config;
}

struct Fixture {
  Config config = full_job();
  std::unique_ptr<kernels::Device> device = kernels::make_host_device(1);
  dist::Mesh mesh = runtime().make_mesh(*device, {1, 1, runtime().size()});
  Context context{.device = *device, .mesh = mesh, .shape = config.model.shape};
  Parameters parameters{context, make_plan(config), tensor_table(config.model.shape), nullptr, 1};
  Optimizer optimizer{context, parameters, config.optimizer};

  // Small integers, other ones on each rank, so that sums are exact.
  static float gradient(Index i, int rank) { return static_cast<float>(i % 17 * (rank + 1)); }
  void set_gradients() {
    for (DenseParameter& p : parameters.dense()) {
      float* g = p.gradient().row<float>(0);
      for (Index i = 0; i < p.count(); ++i) g[i] = gradient(i, mesh.rank());
    }
  }
  void expect_sums() {
    const int ranks = mesh.world().size();
    for (DenseParameter& p : parameters.dense()) {
      const float* g = p.gradient_share().row<float>(0);
      const Index first = p.share() * mesh.point().data;
      for (Index i = 0; i < std::min(p.share(), p.count() - first); ++i)
        ASSERT_EQ(g[i], gradient(first + i, 0) * static_cast<float>(ranks * (ranks + 1) / 2)) << p.info().name << ' ' << i;
    }
  }
  Index calls() const { return device->profile().entry(kernels::Phase::data).calls; }
  Index tensors_of(Index layer) {
    return std::ranges::count(parameters.dense(), layer, [](const DenseParameter& p) { return p.info().layer; });
  }
};

TEST(DenseGradients, AreSummedOnceWhoeverCompletesThem) {
  Fixture f;
  for (const std::vector<Index>& done : {std::vector<Index>{2, 1, 0}, std::vector<Index>{2}, std::vector<Index>{}}) {
    f.optimizer.zero_gradients();
    f.set_gradients();
    for (const Index layer : done) f.optimizer.layer_done(layer);
    f.optimizer.reduce();
    f.expect_sums();
  }
}

TEST(DenseGradients, StartBeforeTheEnd) {
  Fixture f;
  if (f.mesh.world().size() == 1) GTEST_SKIP() << "one rank sums nothing";
  f.optimizer.zero_gradients();
  f.set_gradients();
  const Index before = f.calls();
  ASSERT_GT(f.tensors_of(2), 0);
  f.optimizer.layer_done(2);
  EXPECT_EQ(f.calls(), before + f.tensors_of(2));
  f.optimizer.reduce();
  f.expect_sums();
}

}  // namespace
}  // namespace lorashard::core
