// A shrunken job fits its mesh, is small, and keeps what the big one is made of.
#include <gtest/gtest.h>

#include <algorithm>

#include "core/adapter.hpp"
#include "core/options.hpp"
#include "core/shrink.hpp"
#include "core/tensor_table.hpp"
#include "kernels/view.hpp"

namespace lorashard::core {
namespace {

Config gpt3() {
  Config config;
  ModelShape& shape = config.model.shape;
  shape.layers = 96, shape.width = 12288, shape.heads = shape.kv_heads = 96, shape.ffn = 4 * 12288;
  shape.vocab = 50257, shape.context = 2048;
  config.data.length = 2048;
  config.train.batch = 96;
  config.train.microbatch = 1;
  return config;
}

TEST(Shrink, FitsEveryMeshThatTheJobFits) {
  for (const int tensor : {1, 2, 3, 8, 32})
    for (const int pipeline : {1, 2, 5, 12})
      for (const int data : {1, 3, 8})
        for (const int chunks : {1, 4}) {
          const dist::MeshExtents extents{tensor, pipeline, data};
          SCOPED_TRACE(kernels::text(to_string(extents), ", ", chunks, " chunks"));
          Config config = gpt3();
          config.mesh.tensor = tensor, config.mesh.pipeline = pipeline, config.mesh.chunks = chunks;
          if (chunks > 1) config.mesh.schedule = dist::ScheduleKind::interleaved;
          ASSERT_NO_THROW(check_config(config, extents.ranks()));
          const Config small = shrunken(config, extents);
          EXPECT_NO_THROW(check_config(small, extents.ranks()));
          const ModelShape& shape = small.model.shape;
          EXPECT_EQ(shape.layers, 2 * pipeline * chunks > 96 ? 96 : 2 * pipeline * chunks);
          EXPECT_EQ(shape.heads, tensor < 96 ? 2 * tensor : 96);
          EXPECT_EQ(shape.vocab % tensor, 50257 % tensor);
          EXPECT_EQ(small.data.length % tensor, 2048 % tensor);
          EXPECT_EQ(shape.context, small.data.length);
          EXPECT_GE(small.train.batch / data, 2);
          EXPECT_LE(shape.width, std::max(64, 16 * tensor));
          EXPECT_LT(shape.vocab, std::max(128, 32 * tensor) + 2 * tensor);
          EXPECT_EQ(shape.ffn, 4 * shape.width);
        }
}

TEST(Shrink, KeepsRatiosAndWhatIsLeftOut) {
  Config config = gpt3();
  config.model.base = "data/base.h5";
  config.adapter.targets = {Target::q, Target::up, Target::o};
  config.adapter.rank_of = {{Target::up, 64}, {Target::o, kFullRank}};
  config.adapter.rank = 2;
  config.adapter.alpha = 16;
  config.adapter.layers = {48, 60, 95};
  config.adapter.dropout = 0.25;
  config.train.recompute = Recompute::full;
  const Config small = shrunken(config, {1, 1, 1});
  EXPECT_EQ(small.model.base, "");
  EXPECT_EQ(small.adapter.dropout, 0.25);
  EXPECT_EQ(small.train.recompute, Recompute::full);
  EXPECT_EQ(small.model.shape.ffn, 4 * small.model.shape.width);
  EXPECT_EQ(small.adapter.layers, std::vector<Index>{1});  // of two: the lower one has no adapter
  for (const AdapterSpec& spec : make_plan(small).adapters) {
    EXPECT_EQ(spec.rank, spec.target == Target::up ? 4 : 2);
    EXPECT_DOUBLE_EQ(spec.alpha / static_cast<double>(spec.rank), spec.target == Target::up ? 0.25 : 8);
  }
  EXPECT_EQ(make_plan(small).dense, std::vector<std::string>{"layers.1.attention.o.weight"});
}

TEST(Shrink, NeverGrows) {
  Config config;
  ModelShape& shape = config.model.shape;
  shape.layers = 1, shape.width = 4, shape.heads = shape.kv_heads = 1, shape.ffn = 4, shape.vocab = 5,
  shape.context = 3;
  config.data.length = 2;
  config.train.batch = 1;
  config.adapter.rank = 1;
  const Config small = shrunken(config, {1, 1, 1});
  EXPECT_EQ(small.model.shape, shape);
  EXPECT_EQ(small.data.length, 2);
  EXPECT_EQ(small.train.batch, 1);
  EXPECT_EQ(small.adapter.rank, 1);
}

}  // namespace
}  // namespace lorashard::core
