#include "kernels/norm.hpp"
#include "samples.hpp"

namespace lorashard::kernels {
namespace {

struct Extents {
  Index rows, cols, groups;  // M, C, G
};
std::string name_of(const Extents& e) { return text(e.rows, " rows of ", e.groups, " groups of ", e.cols); }

// 1 / sqrt(mean of x^2 + eps) of a group.
double rstd_of(const ConstMatrix& x, Index r, Index group, Index cols, double eps) {
  double squares = 0;
  for (Index c = 0; c < cols; ++c) squares += std::pow(element(x, r, group * cols + c), 2);
  return 1.0 / std::sqrt(squares / static_cast<double>(cols) + eps);
}

// A sum of C positive terms in 16 running sums: C / 16 + 8 roundings, relative.
double roundings(Index cols) { return static_cast<double>(cols) / 16.0 + 8; }

void check_forward(DType x_type, DType y_type, DType weight_type, const Extents& e) {
  SCOPED_TRACE(text(name_of(e), " ", name(x_type), " ", name(y_type), " ", name(weight_type)));
  const Index width = e.groups * e.cols;
  Sample x(x_type, e.rows, width, 3), y(y_type, e.rows, width, 1), statistics(DType::f32, e.rows, e.groups, 2);
  Sample weight(weight_type, 1, e.cols), alone(y_type, e.rows, width);
  x.normals(1, 1.0, 0.5);
  weight.normals(2, 0.5, 1.0);
  const auto device = make_host_device(2);
  rms_norm(*device, RmsNormForward{x, weight, 1e-5f, y, statistics});
  rms_norm(*device, RmsNormForward{x, weight, 1e-5f, alone, {}});
  Doubles expected(e.rows, width), rstd(e.rows, e.groups);
  for (Index r = 0; r < e.rows; ++r) {
    for (Index g = 0; g < e.groups; ++g) {
      rstd(r, g) = rstd_of(x, r, g, e.cols, 1e-5f);
      for (Index c = 0; c < e.cols; ++c) {
        expected(r, g * e.cols + c) = x(r, g * e.cols + c) * rstd(r, g) * weight(0, c);
        ASSERT_EQ(alone(r, g * e.cols + c), y(r, g * e.cols + c));
      }
    }
  }
  // rstd carries half of its sum's error, and three roundings more.
  const double relative = (0.5 * roundings(e.cols) + 3) * kFloatEpsilon;
  expect_close(
      statistics, rstd, [&](Index r, Index g) { return relative * rstd(r, g); }, "statistics");
  expect_close(
      y, expected,
      [&](Index r, Index c) {
        return (relative + 2 * kFloatEpsilon + unit_roundoff(y_type)) * std::abs(expected(r, c)) + 1e-30;
      },
      "y");
}

TEST(RmsNorm, ForwardMatchesTheDefinition) {
  for (const DType x : {DType::f32, DType::bf16}) {
    for (const DType y : {DType::f32, DType::bf16}) {
      for (const DType weight : {DType::f32, DType::bf16}) {
        check_forward(x, y, weight, {5, 37, 1});
        check_forward(x, y, weight, {40, 768, 1});
        check_forward(x, y, weight, {7, 24, 5});
        check_forward(x, y, weight, {300, 64, 3});
      }
    }
  }
}

// Groups of two values +-4: the root mean square is 4 exactly.
TEST(RmsNorm, ExactForPlusMinusFour) {
  Sample x(DType::f32, 4, 8), weight(DType::f32, 1, 2), statistics(DType::f32, 4, 4);
  for (Index r = 0; r < 4; ++r) {
    for (Index c = 0; c < 8; ++c) set_element(x, r, c, (r + c) % 3 == 0 ? -4 : 4);
  }
  set_element(weight, 0, 0, 2);
  set_element(weight, 0, 1, -1);
  rms_norm(*make_host_device(1), RmsNormForward{x, weight, 0.0f, x, statistics});  // y may be x
  for (Index r = 0; r < 4; ++r) {
    for (Index c = 0; c < 8; ++c) {
      EXPECT_EQ(x(r, c), ((r + c) % 3 == 0 ? -1 : 1) * (c % 2 == 0 ? 2 : -1));
      EXPECT_EQ(statistics(r, c / 2), 0.25);
    }
  }
}

TEST(RmsNorm, ARowOfZerosStaysZero) {
  Sample x(DType::f32, 1, 16), weight(DType::f32, 1, 16);
  x.fill(0);
  weight.fill(1);
  rms_norm(*make_host_device(1), RmsNormForward{x, weight, 1e-5f, x, {}});
  for (Index c = 0; c < 16; ++c) EXPECT_EQ(x(0, c), 0);
}

struct Backward {
  Sample x, statistics, weight, dy, dx, dweight;

  Backward(DType dtype, const Extents& e)
      : x(dtype, e.rows, e.groups * e.cols, 2),
        statistics(DType::f32, e.rows, e.groups, 1),
        weight(dtype, 1, e.cols),
        dy(dtype, e.rows, e.groups * e.cols, 1),
        dx(dtype, e.rows, e.groups * e.cols, 3),
        dweight(DType::f32, 1, e.cols) {
    x.normals(1, 1.0, 0.5);
    weight.normals(2, 0.5, 1.0);
    dy.normals(3);
    dx.normals(4);
    dweight.normals(5);
    for (Index r = 0; r < e.rows; ++r) {
      for (Index g = 0; g < e.groups; ++g) set_element(statistics, r, g, rstd_of(x, r, g, e.cols, 1e-5));
    }
  }
  void run(Device& device, bool accumulate, bool trained) {
    rms_norm(device, RmsNormBackward{x, statistics, weight, dy, dx, accumulate, trained ? dweight.view() : Matrix()});
  }
};

// The Jacobian of a group, dy_c/dx_j = w_c rstd (delta_cj - xhat_c xhat_j / C), applied to dy.
void check_backward(DType dtype, const Extents& e, bool accumulate, bool trained) {
  SCOPED_TRACE(text(name_of(e), " ", name(dtype), accumulate ? " +=" : " =", trained ? " trained" : " frozen"));
  Backward b(dtype, e), before(dtype, e);
  b.run(*make_host_device(2), accumulate, trained);
  const Index width = e.groups * e.cols;
  Doubles dx(e.rows, width), size(e.rows, width), dweight(1, e.cols), weight_size(1, e.cols);
  for (Index r = 0; r < e.rows; ++r) {
    for (Index g = 0; g < e.groups; ++g) {
      const double rstd = b.statistics(r, g);
      const Index first = g * e.cols;
      const auto xhat = [&](Index c) { return b.x(r, first + c) * rstd; };
      double product = 0, product_size = 0;
      for (Index c = 0; c < e.cols; ++c) {
        const double term = b.dy(r, first + c) * b.weight(0, c) * xhat(c) / static_cast<double>(e.cols);
        product += term;
        product_size += std::abs(term);
        dweight(0, c) += b.dy(r, first + c) * xhat(c);
        weight_size(0, c) += std::abs(b.dy(r, first + c) * xhat(c));
      }
      for (Index c = 0; c < e.cols; ++c) {
        const double old = accumulate ? before.dx(r, first + c) : 0.0, own = b.dy(r, first + c) * b.weight(0, c);
        dx(r, first + c) = old + rstd * (own - xhat(c) * product);
        size(r, first + c) = std::abs(old) + rstd * (std::abs(own) + std::abs(xhat(c)) * product_size);
      }
    }
  }
  expect_close(
      b.dx, dx,
      [&](Index r, Index c) {
        return (roundings(e.cols) + 10) * kFloatEpsilon * size(r, c) + unit_roundoff(dtype) * std::abs(dx(r, c));
      },
      "dx");
  for (Index c = 0; c < e.cols; ++c) dweight(0, c) = before.dweight(0, c) + (trained ? dweight(0, c) : 0.0);
  const double rows = static_cast<double>(e.rows * e.groups), sums = std::min(rows, 8 + rows / 64 + 64) + 6;
  expect_close(
      b.dweight, dweight,
      [&](Index, Index c) { return sums * kFloatEpsilon * (weight_size(0, c) + std::abs(before.dweight(0, c))); },
      "dweight");
}

TEST(RmsNorm, BackwardMatchesTheJacobian) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    check_backward(dtype, {3, 37, 1}, false, true);
    check_backward(dtype, {700, 40, 1}, true, true);
    check_backward(dtype, {5, 200, 1}, true, false);
    check_backward(dtype, {90, 24, 6}, false, true);
  }
}

// Steps of +-h in double through the definition of the forward pass: no formula of a gradient in common.
TEST(RmsNorm, BackwardMatchesCentralDifferences) {
  const Extents e{1, 6, 2};
  Backward b(DType::f32, e);
  b.dweight.fill(0);
  b.run(*make_host_device(1), false, true);
  std::vector<double> x(12), w(6);
  for (Index c = 0; c < 12; ++c) x[c] = b.x(0, c);
  for (Index c = 0; c < 6; ++c) w[c] = b.weight(0, c);
  const auto loss = [&] {
    double sum = 0;
    for (Index g = 0; g < 2; ++g) {
      double squares = 0;
      for (Index c = 0; c < 6; ++c) squares += x[g * 6 + c] * x[g * 6 + c];
      const double rms = std::sqrt(squares / 6 + 1e-5);
      for (Index c = 0; c < 6; ++c) sum += b.dy(0, g * 6 + c) * w[c] * x[g * 6 + c] / rms;
    }
    return sum;
  };
  const auto slope = [&](double& at) {
    const double h = 1e-5, here = at;
    at = here + h;
    const double above = loss();
    at = here - h;
    const double below = loss();
    at = here;
    return (above - below) / (2 * h);
  };
  // h^2 times a third derivative of some tens, and the rounding of a loss of some units over h.
  for (Index c = 0; c < 12; ++c) EXPECT_NEAR(b.dx(0, c), slope(x[c]), 1e-8 + 50 * kFloatEpsilon);
  for (Index c = 0; c < 6; ++c) EXPECT_NEAR(b.dweight(0, c), slope(w[c]), 1e-8 + 50 * kFloatEpsilon);
}

TEST(RmsNorm, DxMayBeDy) {
  Backward apart(DType::bf16, {20, 30, 2}), same(DType::bf16, {20, 30, 2});
  const auto device = make_host_device(2);
  apart.run(*device, false, true);
  rms_norm(*device, RmsNormBackward{same.x, same.statistics, same.weight, same.dy, same.dy, false, same.dweight});
  for (Index r = 0; r < 20; ++r) {
    for (Index c = 0; c < 60; ++c) ASSERT_EQ(same.dy(r, c), apart.dx(r, c));
  }
  EXPECT_EQ(same.dweight.image(), apart.dweight.image());
}

TEST(RmsNorm, DoesNotDependOnThreads) {
  expect_thread_independent([](Device& device) {
    Backward b(DType::f32, {111, 65, 3});
    Sample y(DType::f32, 111, 195);
    rms_norm(device, RmsNormForward{b.x, b.weight, 1e-5f, y, b.statistics});
    b.run(device, true, true);
    auto bytes = y.image();
    for (const Sample* s : {&b.dx, &b.dweight}) bytes.insert(bytes.end(), s->image().begin(), s->image().end());
    return bytes;
  });
}

TEST(RmsNorm, CostIsTheSameOnMetaAndAsStated) {
  expect_same_cost(Phase::elementwise, [](Device& device) {
    const auto tensor = [&](Index rows, Index cols) {
      Tensor t(device, Category::activation, DType::f32, rows, cols);
      if (!device.meta()) std::memset(t.view().data, 0, t.view().bytes());
      return t;
    };
    Tensor x = tensor(4, 8), y = tensor(4, 8), w = tensor(1, 4), s = tensor(4, 2);
    const auto bytes = [&] { return device.profile().entry(Phase::elementwise).bytes; };
    rms_norm(device, RmsNormForward{x, w, 1e-5f, y, s});
    EXPECT_EQ(bytes(), 4.0 * (32 + 32 + 4 + 8));
    rms_norm(device, RmsNormBackward{x, s, w, y, y, true, w});
    EXPECT_EQ(bytes(), 4.0 * (76 + 32 + 8 + 4 + 3 * 32 + 2 * 4));
  });
}

TEST(RmsNorm, NoRowsIsNothing) {
  Backward b(DType::f32, {0, 8, 2}), before(DType::f32, {0, 8, 2});
  b.run(*make_host_device(1), false, true);
  EXPECT_EQ(b.dweight.image(), before.dweight.image());
  Sample y(DType::f32, 0, 16);
  rms_norm(*make_host_device(1), RmsNormForward{b.x, b.weight, 1e-5f, y, b.statistics});
}

TEST(RmsNorm, RefusesOtherExtents) {
  const auto device = make_meta_device();
  const auto m = [](Index rows, Index cols, DType dtype = DType::f32) {
    return Matrix{nullptr, dtype, rows, cols, cols};
  };
  const auto refusal = [&](const auto& args) -> std::string {
    try {
      rms_norm(*device, args);
    } catch (const Error& error) {
      EXPECT_EQ(error.failure(), Failure::configuration);
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal(RmsNormForward{m(4, 8), m(1, 4), 1e-5f, m(4, 8), m(4, 2)}), "");
  EXPECT_EQ(refusal(RmsNormForward{m(4, 8), m(1, 3), 1e-5f, m(4, 8), {}}),
            "rms_norm: weight is 1x3, expected one row whose length divides x's 8 columns");
  EXPECT_NE(refusal(RmsNormForward{m(4, 8), m(2, 4), 1e-5f, m(4, 8), {}}), "");
  EXPECT_NE(refusal(RmsNormForward{m(4, 8), m(1, 4), 1e-5f, m(4, 7), {}}), "");
  EXPECT_EQ(refusal(RmsNormForward{m(4, 8), m(1, 4), 1e-5f, m(4, 8), m(4, 1)}),
            "rms_norm: statistics is 4x1, expected 4x2");
  EXPECT_EQ(refusal(RmsNormBackward{m(4, 8), m(4, 2), m(1, 4), m(4, 8), m(4, 8), false, {}}), "");
  EXPECT_NE(refusal(RmsNormBackward{m(4, 8), {}, m(1, 4), m(4, 8), m(4, 8), false, {}}), "");
  EXPECT_EQ(refusal(RmsNormBackward{m(4, 8), m(4, 2), m(1, 4), m(4, 8), m(4, 8), false, m(1, 8)}),
            "rms_norm backward: dweight is 1x8, expected 1x4");
  EXPECT_NE(refusal(RmsNormBackward{m(4, 8), m(4, 2), m(1, 4), m(4, 8), m(4, 8), false, m(1, 4, DType::bf16)}), "");
}

}  // namespace
}  // namespace lorashard::kernels
