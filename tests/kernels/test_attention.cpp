#include "attention_case.hpp"

namespace lorashard::kernels {
namespace {

TEST(Attention, MatchesTheDefinition) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    expect_as_defined({1, 1, 1, 1, 4}, dtype);
    expect_as_defined({2, 7, 3, 3, 5}, dtype);
    expect_as_defined({1, 64, 2, 2, 16}, dtype);
    expect_as_defined({2, 65, 2, 2, 64}, dtype);
    expect_as_defined({1, 200, 2, 2, 80}, dtype);
    expect_as_defined({2, 130, 4, 2, 32}, dtype);
    expect_as_defined({1, 70, 6, 1, 8}, dtype);
  }
}

TEST(Attention, FirstTokenCopiesItsValue) {
  Case c({1, 3, 2, 2, 4}, DType::f32);
  c.forward(*make_host_device(1));
  for (Index col = 0; col < 8; ++col) EXPECT_EQ(c.out(0, col), c.fused(0, 16 + col));
}

// Scores around +-1000: only differences to the row's maximum may be exponentiated.
TEST(Attention, LargeScoresStayFinite) {
  Case c({1, 100, 1, 1, 16}, DType::f32, 16.0);
  const auto device = make_host_device(1);
  c.forward(*device);
  c.backward(*device);
  for (Index r = 0; r < 100; ++r) {
    for (Index col = 0; col < 16; ++col) EXPECT_TRUE(std::isfinite(c.out(r, col)));
    for (Index col = 0; col < 48; ++col) EXPECT_TRUE(std::isfinite(c.dfused(r, col)));
  }
}

TEST(Attention, NanReachesTheRowsThatSeeIt) {
  Case c({1, 80, 1, 1, 8}, DType::f32);
  set_element(c.fused, 40, 8, std::nan(""));  // in k of token 40
  c.forward(*make_host_device(2));
  for (Index t = 0; t < 80; ++t) EXPECT_EQ(std::isnan(c.out(t, 0)), t >= 40) << t;
}

TEST(Attention, DoesNotDependOnThreads) {
  expect_thread_independent([](Device& device) {
    Case c({2, 150, 4, 2, 24}, DType::f32);
    c.forward(device);
    c.backward(device);
    auto bytes = c.out.image();
    bytes.insert(bytes.end(), c.dfused.image().begin(), c.dfused.image().end());
    return bytes;
  });
}

TEST(Attention, ASequenceDoesNotDependOnItsBatch) {
  Case both({2, 70, 2, 2, 16}, DType::f32), alone({1, 70, 2, 2, 16}, DType::f32);
  const auto device = make_host_device(2);
  both.forward(*device);
  alone.forward(*device);
  for (Index r = 0; r < 70; ++r) {
    for (Index col = 0; col < 32; ++col) EXPECT_EQ(both.out(r, col), alone.out(r, col));
  }
}

TEST(Attention, CostIsTheSameOnMetaAndAsStated) {
  const AttentionShape s{2, 10, 4, 2, 8};
  const auto work = [&](Device& device) {
    const auto tensor = [&](Index cols) { return Tensor(device, Category::activation, DType::f32, 20, cols); };
    Tensor q = tensor(32), k = tensor(16), v = tensor(16), out = tensor(32), dout = tensor(32);
    Tensor dq = tensor(32), dk = tensor(16), dv = tensor(16);
    Tensor log_sum(device, Category::activation, DType::f32, 4, 20);
    for (Tensor* t : {&q, &k, &v, &dout}) {
      if (!device.meta()) std::memset(t->view().data, 0, t->view().bytes());
    }
    attention(device, AttentionForward{s, q, k, v, out, log_sum});
    attention(device, AttentionBackward{s, q, k, v, out, log_sum, dout, dq, dk, dv});
    EXPECT_EQ(device.profile().entry(Phase::attention).flops, (4.0 + 10.0) * 8 * 2 * 4 * 55);
    EXPECT_EQ(device.profile().entry(Phase::attention).bytes, 4.0 * 20 * (96 + 4 + 96 + 4 + 96));
  };
  expect_same_cost(Phase::attention, work);
}

TEST(Attention, EmptyBatchIsNothing) {
  Case c({0, 5, 2, 2, 4}, DType::f32);
  const auto device = make_host_device(1);
  c.forward(*device);
  c.backward(*device);
}

TEST(Attention, RefusesWhatDoesNotFit) {
  const auto device = make_meta_device();
  Case c({1, 4, 3, 3, 4}, DType::f32);
  c.s.kv_heads = 2;
  EXPECT_THROW(c.forward(*device), Error);
  c.s.kv_heads = 3;
  c.s.length = 5;
  EXPECT_THROW(c.forward(*device), Error);
}

}  // namespace
}  // namespace lorashard::kernels
