#include "kernels/adamw.hpp"
#include "samples.hpp"

namespace lorashard::kernels {
namespace {

struct Case {
  Sample weight, first, second, gradient, low;
  double control[StepControl::columns] = {0, 0, 0.5, 0};  // clipping halves the gradients

  explicit Case(Index count)
      : weight(DType::f32, 1, count),
        first(DType::f32, 1, count),
        second(DType::f32, 1, count),
        gradient(DType::f32, 1, count),
        low(DType::bf16, 1, count) {
    weight.normals(1);
    first.fill(0);
    second.fill(0);
  }
  AdamW args(Index step) {
    AdamW a{weight, first, second, gradient, low};
    a.lr = 0.01f;
    a.beta1 = 0.9f;
    a.beta2 = 0.95f;
    a.weight_decay = 0.1f;
    a.control = view(control, 1, StepControl::columns);
    a.step = step;
    return a;
  }
};

// Ten steps in doubles beside it. Each step rounds the weight once (of size up to 5) and moves it by a term below
// lr * (1 / sqrt(1 - beta2) + ...) < 0.05 that carries some 12 roundings; the moments carry 3 a step of terms below 3.
TEST(AdamW, MatchesTheAlgorithm) {
  const auto device = make_host_device(2);
  for (const Index count : {1, 17, 5000}) {
    Case c(count);
    std::vector<double> w(count), m(count), v(count);
    for (Index i = 0; i < count; ++i) w[i] = c.weight(0, i);
    for (Index step = 1; step <= 10; ++step) {
      c.gradient.normals(10 + step);
      const AdamW a = c.args(step);
      adamw(*device, a);
      const double b1 = a.beta1, b2 = a.beta2;
      for (Index i = 0; i < count; ++i) {
        const double g = 0.5 * c.gradient(0, i);
        m[i] = b1 * m[i] + (1 - b1) * g;
        v[i] = b2 * v[i] + (1 - b2) * g * g;
        w[i] -= static_cast<double>(a.lr) * a.weight_decay * w[i];
        w[i] -= a.lr * (m[i] / (1 - std::pow(b1, step))) / (std::sqrt(v[i] / (1 - std::pow(b2, step))) + a.eps);
      }
    }
    for (Index i = 0; i < count; ++i) {
      ASSERT_NEAR(c.weight(0, i), w[i], 10 * (5 + 12 * 0.05) * kFloatEpsilon) << i;
      ASSERT_NEAR(c.first(0, i), m[i], 10 * 3 * 3 * kFloatEpsilon) << i;
      ASSERT_NEAR(c.second(0, i), v[i], 10 * 5 * v[i] * kFloatEpsilon) << i;
      ASSERT_EQ(c.low(0, i), to_float(to_bf16(static_cast<float>(c.weight(0, i))))) << i;
    }
  }
}

// m / (1 - b1) = g and v / (1 - b2) = g^2 at the first step: the weight moves by lr against the gradient's sign.
TEST(AdamW, FirstStepIsTheLearningRate) {
  Case c(64);
  c.weight.fill(0.0);
  c.gradient.normals(3);
  AdamW a = c.args(1);
  a.low_precision = {};
  adamw(*make_host_device(1), a);
  for (Index i = 0; i < 64; ++i) {
    EXPECT_NEAR(c.weight(0, i), c.gradient(0, i) > 0 ? -0.01 : 0.01,
                0.01 * (12 * kFloatEpsilon + 1e-8 / std::abs(0.5 * c.gradient(0, i))));
  }
}

TEST(AdamW, WithoutControlTheScaleIsOne) {
  Case with(70), without(70);
  with.control[StepControl::scale] = 1;
  with.gradient.normals(3);
  without.gradient.normals(3);
  AdamW a = without.args(2);
  a.control = {};
  const auto device = make_host_device(1);
  adamw(*device, with.args(2));
  adamw(*device, a);
  EXPECT_EQ(with.weight.image(), without.weight.image());
  EXPECT_EQ(with.second.image(), without.second.image());
}

TEST(AdamW, HaltedChangesNothing) {
  Case c(70), before(70);
  c.gradient.normals(3);
  c.low.fill(0);
  before.low.fill(0);
  c.control[StepControl::halted] = 1;
  adamw(*make_host_device(1), c.args(2));
  EXPECT_EQ(c.weight.image(), before.weight.image());
  EXPECT_EQ(c.first.image(), before.first.image());
  EXPECT_EQ(c.second.image(), before.second.image());
  EXPECT_EQ(c.low.image(), before.low.image());
}

TEST(AdamW, NoGradientOnlyDecays) {
  Case c(3);
  c.weight.fill(2.0);
  c.gradient.fill(0.0);
  adamw(*make_host_device(1), c.args(1));
  EXPECT_NEAR(c.weight(0, 0), 2.0 - 0.01 * 0.1 * 2.0, 4 * kFloatEpsilon);
  EXPECT_EQ(c.first(0, 0), 0.0);
}

TEST(AdamW, DoesNotDependOnThreads) {
  expect_thread_independent([](Device& device) {
    Case c(50000);
    c.gradient.normals(3);
    adamw(device, c.args(1));
    auto bytes = c.weight.image();
    bytes.insert(bytes.end(), c.low.image().begin(), c.low.image().end());
    double squares = 0;
    add_sum_of_squares(device, c.weight, view(&squares, 1, 1));
    const auto* first = reinterpret_cast<const std::byte*>(&squares);
    bytes.insert(bytes.end(), first, first + sizeof squares);
    return bytes;
  });
}

TEST(SumOfSquares, IsInDoubleAndAddsToTheTotal) {
  const auto device = make_host_device(2);
  Sample m(DType::f32, 1, 30000);
  double expected = 3, total = 3;
  for (Index i = 0; i < 30000; ++i) {
    set_element(m, 0, i, i % 2 ? 4096.0 : 1.0);  // squares of 2^24 and 1: a float sum would lose the ones
    expected += i % 2 ? 16777216.0 : 1.0;
  }
  add_sum_of_squares(*device, m, view(&total, 1, 1));
  EXPECT_EQ(total, expected);
  add_sum_of_squares(*device, {}, view(&total, 1, 1));
  EXPECT_EQ(total, expected);
}

struct Step {
  std::vector<double> totals;  // loss and squares of each rank
  double control[StepControl::columns] = {};
  Step& finish(double loss_scale = 1, double clip = 0) {
    StepOutcome args{view(totals.data(), static_cast<Index>(totals.size() / 2), 2), loss_scale, clip,
                     view(control, 1, StepControl::columns)};
    finish_step(*make_host_device(2), args);
    return *this;
  }
};

// 1e16 + 1 rounds to 1e16, so that only the order of ranks leaves a 1.
TEST(FinishStep, SumsInRankOrder) {
  Step step{{1e16, 1e16, 1, 1, -1e16, -1e16, 1, 1}};
  step.finish(0.25);
  EXPECT_EQ(step.control[StepControl::loss], 0.25);
  EXPECT_EQ(step.control[StepControl::grad_norm], 1);
  EXPECT_EQ(step.control[StepControl::scale], 1);
  EXPECT_EQ(step.control[StepControl::halted], 0);
}

TEST(FinishStep, ClipsToTheNorm) {
  Step step{{0, 9, 0, 16}};
  EXPECT_EQ(step.finish(1, 0).control[StepControl::scale], 1);
  EXPECT_EQ(step.finish(1, 6).control[StepControl::scale], 1);
  EXPECT_EQ(step.finish(1, 2).control[StepControl::scale], 2 / (5 + 1e-6));
  EXPECT_EQ(step.control[StepControl::grad_norm], 5);
}

TEST(FinishStep, WithoutAGradientTheScaleIsFinite) {
  Step step{{2, 0}};
  EXPECT_EQ(step.finish(1, 1).control[StepControl::scale], 1);
  EXPECT_EQ(step.control[StepControl::grad_norm], 0);
}

TEST(FinishStep, WhatIsNotFiniteHaltsForGood) {
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::nan("");
  for (const auto& bad : {std::vector<double>{nan, 1}, {infinity, 1}, {-infinity, 1}, {1, nan}, {1, infinity}}) {
    Step step{{0, 4, bad[0], bad[1]}};
    EXPECT_EQ(step.finish(1, 1).control[StepControl::halted], 1) << bad[0] << " " << bad[1];
    step.totals = {1, 4, 1, 5};
    step.finish(1, 1);
    EXPECT_EQ(step.control[StepControl::halted], 1);
    EXPECT_EQ(step.control[StepControl::loss], 2);
    EXPECT_EQ(step.control[StepControl::grad_norm], 3);
  }
}

TEST(FinishStep, RefusesOtherExtents) {
  const auto device = make_host_device(1);
  double numbers[8] = {};
  EXPECT_THROW(finish_step(*device, {view(numbers, 2, 3), 1, 0, view(numbers, 1, 4)}), Error);
  EXPECT_THROW(finish_step(*device, {view(numbers, 2, 2), 1, 0, view(numbers, 1, 3)}), Error);
}

TEST(AdamW, CostIsTheSameOnMetaAndAsStated) {
  expect_same_cost(Phase::optimizer, [](Device& device) {
    const auto tensor = [&](DType dtype) {
      Tensor t(device, Category::optimizer, dtype, 1, 100);
      if (!device.meta()) std::memset(t.view().data, 0, t.view().bytes());
      return t;
    };
    Tensor w = tensor(DType::f32), m = tensor(DType::f32), v = tensor(DType::f32), g = tensor(DType::f32);
    Tensor low = tensor(DType::bf16);
    adamw(device, {w, m, v, g, low});
    EXPECT_EQ(device.profile().entry(Phase::optimizer).bytes, 7 * 400 + 200);
    Tensor totals(device, Category::optimizer, DType::f64, 1, 2),
        control(device, Category::optimizer, DType::f64, 1, 4);
    for (Tensor* t : {&totals, &control}) {
      if (!device.meta()) std::memset(t->view().data, 0, t->view().bytes());
    }
    add_sum_of_squares(device, g, totals.view().col_range(1, 1));
    EXPECT_EQ(device.profile().entry(Phase::optimizer).bytes, 8 * 400 + 200 + 16);
    finish_step(device, {totals, 1, 0, control});
    EXPECT_EQ(device.profile().entry(Phase::optimizer).bytes, 8 * 400 + 200 + 16 + 16 + 32);
  });
}

TEST(AdamW, EmptyIsNothingAndMisfitsAreRefused) {
  const auto device = make_host_device(1);
  adamw(*device, {});
  Case c(5), other(6);
  AdamW a = c.args(1);
  a.gradient = other.gradient;
  EXPECT_THROW(adamw(*device, a), Error);
  a = c.args(0);
  EXPECT_THROW(adamw(*device, a), Error);
  a = c.args(1);
  a.control = view(c.control, 1, 3);
  EXPECT_THROW(adamw(*device, a), Error);
}

}  // namespace
}  // namespace lorashard::kernels
