// The gradient buffer in buckets: every element is summed exactly once, whoever completes it and whenever.
#include <gtest/gtest.h>

#include <numeric>

#include "core/gradient_buckets.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::core {
namespace {

// Six layers with an A and a B each, and a tensor that belongs to no layer, first and last.
struct Fixture {
  std::unique_ptr<kernels::Device> device = kernels::make_host_device(1);
  dist::Mesh mesh = runtime().make_mesh(*device, {1, 1, runtime().size()});
  ReplicatedGroup group;

  Fixture() {
    group.add("first", 1, 3, false, -1);
    for (Index layer = 0; layer < 6; ++layer) {
      group.add("a", 4, 8, true, layer);
      group.add("b", 8, 4, true, layer);
    }
    group.add("last", 1, 5, false, -1);
    group.allocate(*device, Category::adapter);
  }
  // Element i of rank r: small integers, so that sums are exact.
  void set_gradients(int step) {
    float* g = group.gradients().row<float>(0);
    for (Index i = 0; i < group.count(); ++i) g[i] = static_cast<float>((i + 3 * step) % 17 * (mesh.rank() + 1));
  }
  void expect_sums(int step) {
    const int ranks = mesh.world().size(), factor = ranks * (ranks + 1) / 2;
    const float* g = group.gradients().row<float>(0);
    for (Index i = 0; i < group.count(); ++i) ASSERT_EQ(g[i], static_cast<float>((i + 3 * step) % 17 * factor)) << i;
  }
};

TEST(GradientBuckets, SumEveryElementOnce) {
  Fixture f;
  for (const Index bytes : {Index{1}, Index{256}, Index{700}, Index{1} << 20}) {
    SCOPED_TRACE(bytes);
    GradientBuckets buckets(f.group, f.mesh.replica(), bytes);
    for (int step = 0; step < 3; ++step) {
      f.set_gradients(step);
      for (Index layer = 6; layer-- > 0;) buckets.layer_done(layer);
      buckets.finish();
      f.expect_sums(step);
    }
  }
}

TEST(GradientBuckets, LayersThatNeverComeAreSummedAtTheEnd) {
  Fixture f;
  GradientBuckets buckets(f.group, f.mesh.replica(), 256);
  f.set_gradients(1);
  buckets.layer_done(5);
  buckets.layer_done(3);
  buckets.finish();
  f.expect_sums(1);
}

TEST(GradientBuckets, CloseWhenTheyHoldTheirBytes) {
  Fixture f;
  // Every tensor of a layer has 128 bytes, the last one 20, the first one 12.
  EXPECT_EQ(GradientBuckets(f.group, f.mesh.replica(), 1).size(), 14u);
  EXPECT_EQ(GradientBuckets(f.group, f.mesh.replica(), 256).size(), 7u);
  EXPECT_EQ(GradientBuckets(f.group, f.mesh.replica(), Index{1} << 20).size(), 1u);
  ReplicatedGroup none;
  GradientBuckets empty(none, f.mesh.replica());
  EXPECT_EQ(empty.size(), 0u);
  empty.finish();
}

// A bucket is on its way as soon as its lowest layer is done: the calls are counted when they are made.
TEST(GradientBuckets, StartBeforeTheEnd) {
  Fixture f;
  if (f.mesh.world().size() == 1) GTEST_SKIP() << "one rank sums nothing";
  GradientBuckets buckets(f.group, f.mesh.replica(), 256);
  f.set_gradients(0);
  const auto calls = [&] { return f.device->profile().entry(kernels::Phase::data).calls; };
  const Index before = calls();
  buckets.layer_done(5);  // the top bucket also holds the tensor of no layer
  EXPECT_EQ(calls(), before);
  buckets.layer_done(4);
  EXPECT_GT(calls(), before);
  buckets.finish();
  EXPECT_EQ(calls(), before + static_cast<Index>(buckets.size()));
}

}  // namespace
}  // namespace lorashard::core
