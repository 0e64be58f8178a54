// The optimizer on the cuda device against the host's meaning.
#include "kernels/adamw.hpp"
#include "totals.hpp"
#include "twin.hpp"

namespace lorashard::kernels {
namespace {

struct Case {
  Twin weight, first, second, gradient, low;
  Totals control{1, StepControl::columns, {0, 0, 0.5, 0}};

  explicit Case(Index count)
      : weight(DType::f32, 1, count),
        first(DType::f32, 1, count),
        second(DType::f32, 1, count),
        gradient(DType::f32, 1, count),
        low(DType::bf16, 1, count) {
    weight.normals(1);
    first.fill(0);
    second.fill(0);
    low.fill(0);
  }
  // Columns [begin, end) of all buffers.
  AdamW args(Device& d, Index begin, Index step) {
    const auto part = [&](Twin& t) { return t.on(d).col_range(begin, t.on(d).cols - begin); };
    AdamW a{part(weight), part(first), part(second), part(gradient), part(low)};
    a.lr = 0.01f;
    a.beta1 = 0.9f;
    a.beta2 = 0.95f;
    a.weight_decay = 0.1f;
    a.control = control.on(d);
    a.step = step;
    return a;
  }
};

// Each device is this far from the algorithm in doubles after n steps: see tests/kernels/test_adamw.cpp.
void expect_near_the_host(Case& c, int steps) {
  c.weight.expect_near([&](Index, Index) { return 2 * steps * (5 + 12 * 0.05) * kFloatEpsilon; }, "weight");
  c.first.expect_near([&](Index, Index) { return 2 * steps * 9 * kFloatEpsilon; }, "first moment");
  c.second.expect_near([&](Index, Index i) { return 2 * steps * 5 * c.second.host()(0, i) * kFloatEpsilon + 1e-300; },
                       "second moment");
}

TEST(CudaAdamW, MatchesTheHost) {
  SKIP_WITHOUT_GPU();
  for (const Index count : {1, 3, 31, 33, 257, 1025, 5000}) {
    for (const Index begin : {0, 1}) {  // from 1: no vector of four starts where it should
      if (begin >= count) continue;
      SCOPED_TRACE(text(count, " values from ", begin));
      Case c(count);
      for (int step = 1; step <= 3; ++step) {
        c.gradient.normals(10 + step);
        Twin::on_both([&](Device& d) { adamw(d, c.args(d, begin, step)); });
      }
      expect_near_the_host(c, 3);
      const Doubles weight = to_doubles(c.weight.from_cuda()), low = to_doubles(c.low.from_cuda());
      for (Index i = begin; i < count; ++i) {
        ASSERT_EQ(low(0, i), to_float(to_bf16(static_cast<float>(weight(0, i))))) << i;
      }
    }
  }
}

TEST(CudaAdamW, NeedsNeitherControlNorACopy) {
  SKIP_WITHOUT_GPU();
  Case c(130);
  c.gradient.normals(3);
  Twin::on_both([&](Device& d) {
    AdamW a = c.args(d, 0, 2);
    a.control = {};
    a.low_precision = {};
    adamw(d, a);
  });
  expect_near_the_host(c, 1);
  c.low.expect_same("low");
}

TEST(CudaAdamW, HaltedChangesNothing) {
  SKIP_WITHOUT_GPU();
  Case c(130);
  c.gradient.normals(3);
  const double halted[] = {0, 0, 1, 1};
  upload(cuda(), ConstMatrix(reinterpret_cast<const std::byte*>(halted), DType::f64, 1, 4, 4), c.control.on(cuda()));
  adamw(cuda(), c.args(cuda(), 0, 2));
  for (Twin* t : {&c.weight, &c.first, &c.second, &c.low}) t->expect_same("halted");
}

TEST(CudaAdamW, IsAlwaysTheSame) {
  SKIP_WITHOUT_GPU();
  Case c(1025), again(1025);
  for (Case* one : {&c, &again}) {
    one->gradient.normals(3);
    adamw(cuda(), one->args(cuda(), 0, 1));
  }
  EXPECT_EQ(c.weight.bytes(), again.weight.bytes());
  EXPECT_EQ(c.second.bytes(), again.second.bytes());
}

TEST(CudaAdamW, EmptyIsNothing) {
  SKIP_WITHOUT_GPU();
  adamw(cuda(), {});
}

// Everything is in double and in the order of ranks, so it is the host's to the bit but for the square root's and the
// quotient's last.
TEST(CudaFinishStep, IsTheHosts) {
  SKIP_WITHOUT_GPU();
  const double infinity = std::numeric_limits<double>::infinity();
  const std::vector<std::vector<double>> cases = {
      {2, 9, 3, 16}, {1e16, 1e16, 1, 1, -1e16, -1e16, 1, 1}, {0, 0}, {1, infinity}, {std::nan(""), 1}, {-infinity, 4}};
  for (const auto& totals : cases) {
    for (const double clip : {0.0, 2.0}) {
      SCOPED_TRACE(text("first totals ", totals[0], " ", totals[1], " clip ", clip));
      Totals from(static_cast<Index>(totals.size() / 2), 2, totals), control(1, 4, {0, 0, 0, 0});
      Twin::on_both([&](Device& d) { finish_step(d, {from.on(d), 0.25, clip, control.on(d)}); });
      const std::vector<double> found = control.from_cuda(), expected = control.on_host();
      EXPECT_EQ(found[StepControl::halted], expected[StepControl::halted]);
      for (int i = 0; i < 3; ++i) {
        if (std::isfinite(expected[i])) {
          EXPECT_NEAR(found[i], expected[i], 2 * 0x1.0p-53 * std::abs(expected[i])) << i;
        } else {
          EXPECT_EQ(std::isnan(found[i]), std::isnan(expected[i])) << i;
        }
      }
    }
  }
}

TEST(CudaFinishStep, OnceHaltedItStaysAndUpdatesStop) {
  SKIP_WITHOUT_GPU();
  Device& d = cuda();
  Case c(70);
  c.gradient.normals(3);
  Totals bad(1, 2, {std::nan(""), 1}), good(1, 2, {1, 1});
  c.control = Totals(1, 4, {0, 0, 0, 0});
  finish_step(d, {bad.on(d), 1, 0, c.control.on(d)});
  finish_step(d, {good.on(d), 1, 0, c.control.on(d)});
  EXPECT_EQ(c.control.from_cuda(), (std::vector<double>{1, 1, 1, 1}));
  adamw(d, c.args(d, 0, 1));
  c.weight.expect_same("weight");
}

}  // namespace
}  // namespace lorashard::kernels
