#include "attention_step_case.hpp"

namespace lorashard::kernels {
namespace {

using Case = StepCase<Sample>;
const StepTypes kF32{DType::f32, DType::f32, DType::f32};

void run(Device& device, Case& c) { attention(device, AttentionStep{c.s, c.q, c.keys, c.values, c.lengths, c.out}); }

void check(AttentionShape s, StepTypes types, const std::vector<std::int32_t>& lengths) {
  SCOPED_TRACE(text("B ", s.batch, " capacity ", s.length, " H ", s.heads, " G ", s.kv_heads, " D ", s.head_size,
                    " group ", s.group, " skew ", s.skew, " window ", s.window, " ", name(types.q), " ",
                    name(types.keys), " ", name(types.out)));
  Case c(s, types, lengths, 3);
  run(*make_host_device(2), c);
  const StepExpected expected(s, lengths, c.q, c.keys, c.values);
  expect_close(
      c.out, expected.out, [&](Index r, Index col) { return expected.bound(s, types.out, r, col); }, "out");
}

TEST(AttentionStep, MatchesTheDefinition) {
  for (const DType q : {DType::f32, DType::bf16}) {
    for (const DType keys : {DType::f32, DType::bf16}) {
      for (const DType out : {DType::f32, DType::bf16}) {
        check({1, 1, 1, 1, 1}, {q, keys, out}, {1});
        check({3, 20, 4, 2, 8}, {q, keys, out}, {1, 20, 7});
        check({2, 300, 6, 2, 37}, {q, keys, out}, {300, 257});
        check({2, 40, 3, 2, 16, 4, 2}, {q, keys, out}, {40, 11});             // a cut group
        check({3, 300, 2, 1, 64, 0, 0, 100}, {q, keys, out}, {3, 100, 299});  // a window
        check({1, 30, 5, 3, 4, 2, 1, 8}, {q, keys, out}, {30});
      }
    }
  }
}

// The last row of causal attention over the same tokens is what the step makes of them.
TEST(AttentionStep, IsTheLastRowOfAttention) {
  const AttentionShape s{1, 90, 4, 2, 16, 0, 0, 50};
  Case c(s, kF32, {90});
  Sample q(DType::f32, 90, 64), out(DType::f32, 90, 64);
  q.normals(1);
  for (Index col = 0; col < 64; ++col) set_element(q, 89, col, c.q(0, col));
  const auto device = make_host_device(2);
  run(*device, c);
  attention(*device, AttentionForward{s, q, c.keys, c.values, out, {}});
  const StepExpected expected(s, c.lengths, c.q, c.keys, c.values);
  for (Index col = 0; col < 64; ++col) {
    EXPECT_NEAR(c.out(0, col), out(89, col), 2 * expected.bound(s, DType::f32, 0, col));
  }
}

// Equal scores average small whole numbers exactly; what lies beyond the length or before the window is NaN, and
// unread.
TEST(AttentionStep, EqualScoresAverageWhatIsSeen) {
  for (const Index window : {0, 16}) {
    Case c({2, 100, 2, 1, 4, 0, 0, window}, kF32, {64, 32});
    c.q.fill(0);
    for (Index b = 0; b < 2; ++b) {
      const Index length = c.lengths[b], first = window > 0 ? length - window : 0;
      for (Index i = 0; i < 100; ++i) {
        const bool seen = i >= first && i < length;
        for (Index d = 0; d < 4; ++d) {
          set_element(c.values, b * 100 + i, d, seen ? static_cast<double>(i) : std::nan(""));
          if (!seen) set_element(c.keys, b * 100 + i, d, std::nan(""));
        }
      }
    }
    run(*make_host_device(2), c);
    for (Index b = 0; b < 2; ++b) {
      const double last = c.lengths[b] - 1, first = window > 0 ? last + 1 - static_cast<double>(window) : 0;
      for (Index col = 0; col < 8; ++col) EXPECT_EQ(c.out(b, col), 0.5 * (first + last)) << window << " " << b;
    }
  }
}

TEST(AttentionStep, LargeScoresStayFinite) {
  Case c({1, 50, 1, 1, 16}, kF32, {50});
  c.q.normals(1, 100.0);
  c.keys.normals(2, 100.0);
  run(*make_host_device(1), c);
  for (Index col = 0; col < 16; ++col) EXPECT_TRUE(std::isfinite(c.out(0, col)));
}

TEST(AttentionStep, DoesNotDependOnThreads) {
  expect_thread_independent([](Device& device) {
    Case c({3, 200, 6, 3, 20}, kF32, {200, 5, 90});
    run(device, c);
    return c.out.image();
  });
}

TEST(AttentionStep, CostIsTheSameOnMetaAndAsStated) {
  expect_same_cost(Phase::attention, [](Device& device) {
    const auto tensor = [&](DType dtype, Index rows, Index cols) {
      Tensor t(device, Category::activation, dtype, rows, cols);
      if (!device.meta()) std::memset(t.view().data, 0, t.view().bytes());
      return t;
    };
    Tensor q = tensor(DType::f32, 2, 32), keys = tensor(DType::bf16, 20, 16), values = tensor(DType::f32, 20, 16);
    const std::vector<std::int32_t> lengths = {3, 10};
    const auto& entry = device.profile().entry(Phase::attention);
    attention(device, AttentionStep{{2, 10, 4, 2, 8}, q, keys, values, lengths, q});
    EXPECT_EQ(entry.flops, 4.0 * 8 * 2 * 4 * 10);
    EXPECT_EQ(entry.bytes, 8 + 2 * 4.0 * 64 + 2.0 * 320 + 4.0 * 320);
    const double flops = entry.flops, bytes = entry.bytes;
    attention(device, AttentionStep{{2, 10, 4, 2, 8, 0, 0, 5}, q, keys, values, lengths, q});
    EXPECT_EQ(entry.flops - flops, 4.0 * 8 * 2 * 4 * 5);
    EXPECT_EQ(entry.bytes - bytes, 8 + 2 * 4.0 * 64 + 2.0 * 160 + 4.0 * 160);
  });
}

TEST(AttentionStep, RefusesWhatDoesNotFit) {
  const auto host = make_host_device(1);
  const auto refusal = [&](Case& c) -> std::string {
    try {
      run(*host, c);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  Case c({2, 10, 4, 2, 8}, kF32, {3, 10});
  EXPECT_EQ(refusal(c), "");
  c.lengths = {3};
  EXPECT_EQ(refusal(c), "attention step: 1 lengths, expected one for each of 2 sequences");
  c.lengths = {3, 11};
  EXPECT_EQ(refusal(c), "attention step: a length is 11, expected 1 to the capacity of 10");
  c.lengths = {0, 10};
  EXPECT_NE(refusal(c), "");
  c.lengths = {3, 10};
  c.s.length = 11;
  EXPECT_EQ(refusal(c), "attention step: keys is 20x16, expected 22x16");
  c.s = {2, 10, 4, 3, 8};
  EXPECT_NE(refusal(c), "");
  Case none({0, 10, 4, 2, 8}, kF32, {});
  EXPECT_EQ(refusal(none), "");
}

}  // namespace
}  // namespace lorashard::kernels
