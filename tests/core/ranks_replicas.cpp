// Replicas that have drifted apart are found and named, on every mesh with replicas.
#include <gtest/gtest.h>

#include "core/base_file.hpp"
#include "tests/golden/trial.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::core {
namespace {

constexpr oracle::Shape kShape{
    .layers = 2, .width = 16, .heads = 2, .ffn = 24, .vocab = 29, .context = 9, .tied_head = false};
constexpr Index kLength = 5, kBatch = 12;

TEST(Replicas, OneThatDriftedIsNamed) {
  const std::string base = golden::scratch() + "/replicas.h5", tokens = golden::scratch() + "/replicas_tokens.h5";
  golden::on_rank_0([&] {
    golden::write_base(base, oracle::random_model(kShape, 1));
    golden::write_tokens(tokens, golden::random_documents(2 * kBatch, kLength, kShape.vocab, 3), kShape.vocab);
  });
  for (const dist::MeshExtents& extents : golden::meshes_of(runtime().size())) {
    if (extents.tensor > 2 || extents.pipeline > 2) continue;
    Config config;
    config.model.base = base;
    config.model.shape = BaseFile(base).shape();
    config.data.length = kLength;
    config.train.batch = kBatch;
    config.mesh.tensor = extents.tensor;
    config.mesh.pipeline = extents.pipeline;
    config.device.threads = 1;
    SCOPED_TRACE(golden::test_name(extents, config));
    const Dataset data(tokens, kLength, Order::sequential, 1);
    golden::on_mesh(extents, [&](auto& device, auto& mesh) {
      Trainer alike(config, device, mesh);
      for (int step = 0; step < 2; ++step) {
        alike.step(data);
        alike.check_replicas();
      }
      // The last rank of every replica group starts from other values, so that all ranks of the mesh see it.
      Config other = config;
      const int last = mesh.replica().size() - 1;
      if (mesh.replica().rank() == last) other.adapter.seed += 1;
      const Trainer drifted(other, device, mesh);
      try {
        drifted.check_replicas();
        EXPECT_EQ(last, 0) << "no error";
      } catch (const kernels::Error& error) {
        EXPECT_EQ(error.failure(), kernels::Failure::numerics);
        EXPECT_NE(std::string(error.what()).find(kernels::text("of rank ", last, " of axis replica")), std::string::npos)
            << error.what();
      }
    });
  }
}

}  // namespace
}  // namespace lorashard::core
