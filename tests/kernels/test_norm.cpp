#include "kernels/norm.hpp"
#include "samples.hpp"

namespace lorashard::kernels {
namespace {

struct Row {
  double mean, rstd;
};
Row statistics_of(const ConstMatrix& x, Index r, double eps) {
  double mean = 0, variance = 0;
  for (Index c = 0; c < x.cols; ++c) mean += element(x, r, c) / x.cols;
  for (Index c = 0; c < x.cols; ++c) variance += std::pow(element(x, r, c) - mean, 2) / x.cols;
  return {mean, 1.0 / std::sqrt(variance + eps)};
}

// Inputs of magnitude 1 around a mean of 2. A mean or a variance is a sum of C terms in 16 running sums: C / 16 + 8
// roundings, of terms below 10 (five standard deviations about 2) and 25.
double roundings(Index cols) { return cols / 16.0 + 8; }

void check_forward(DType x_type, DType y_type, DType weight_type, Index rows, Index cols) {
  SCOPED_TRACE(text(rows, "x", cols, " ", name(x_type), " ", name(y_type), " ", name(weight_type)));
  Sample x(x_type, rows, cols, 3), y(y_type, rows, cols, 1), statistics(DType::f32, rows, 2);
  Sample weight(weight_type, 1, cols), bias(weight_type, 1, cols);
  x.normals(1, 1.0, 2.0);
  weight.normals(2, 0.5, 1.0);
  bias.normals(3);
  layer_norm(*make_host_device(2), LayerNormForward{x, weight, bias, 1e-5f, y, statistics});
  Doubles expected(rows, cols), expected_statistics(rows, 2), size(rows, cols);
  for (Index r = 0; r < rows; ++r) {
    const Row s = statistics_of(x, r, 1e-5);
    expected_statistics(r, 0) = s.mean;
    expected_statistics(r, 1) = s.rstd;
    for (Index c = 0; c < cols; ++c) {
      expected(r, c) = (x(r, c) - s.mean) * s.rstd * weight(0, c) + bias(0, c);
      size(r, c) = (std::abs(x(r, c)) + std::abs(s.mean)) * s.rstd * std::abs(weight(0, c)) + std::abs(bias(0, c));
    }
  }
  const double relative = 2 * roundings(cols) * kFloatEpsilon;
  expect_close(
      statistics, expected_statistics,
      [&](Index r, Index c) {
        // The variance is off by the mean's error squared and by its own sum's; rstd by half of that, relative.
        return c == 0 ? relative * 10 : relative * expected_statistics(r, 1);
      },
      "statistics");
  expect_close(
      y, expected,
      [&](Index r, Index c) {
        return 4 * relative * size(r, c) * std::max(1.0, 10 * expected_statistics(r, 1)) +
               unit_roundoff(y_type) * std::abs(expected(r, c));
      },
      "y");
}

TEST(LayerNorm, ForwardMatchesTheDefinition) {
  for (const DType x : {DType::f32, DType::bf16}) {
    for (const DType y : {DType::f32, DType::bf16}) {
      for (const DType weight : {DType::f32, DType::bf16}) {
        check_forward(x, y, weight, 5, 37);
        check_forward(x, y, weight, 40, 768);
      }
    }
  }
  check_forward(DType::f32, DType::f32, DType::f32, 3, 16);
}

TEST(LayerNorm, ExactForPlusMinusOne) {
  Sample x(DType::f32, 1, 64), y(DType::f32, 1, 64), ones(DType::f32, 1, 64), zeros(DType::f32, 1, 64);
  for (Index c = 0; c < 64; ++c) set_element(x, 0, c, 1024 + (c % 2 ? 1 : -1));
  ones.fill(1);
  zeros.fill(0);
  layer_norm(*make_host_device(1), LayerNormForward{x, ones, zeros, 0.0f, y, {}});
  for (Index c = 0; c < 64; ++c) EXPECT_EQ(y(0, c), c % 2 ? 1 : -1);
}

struct Backward {
  Sample x, statistics, weight, dy, dx, dweight, dbias;

  Backward(DType dtype, Index rows, Index cols)
      : x(dtype, rows, cols, 2),
        statistics(DType::f32, rows, 2),
        weight(dtype, 1, cols),
        dy(dtype, rows, cols, 1),
        dx(dtype, rows, cols, 3),
        dweight(DType::f32, 1, cols),
        dbias(DType::f32, 1, cols) {
    x.normals(1, 1.0, 2.0);
    weight.normals(2, 0.5, 1.0);
    dy.normals(3);
    dx.normals(4);
    dweight.normals(5);
    dbias.normals(6);
    for (Index r = 0; r < rows; ++r) {
      const Row s = statistics_of(x, r, 1e-5);
      set_element(statistics, r, 0, s.mean);
      set_element(statistics, r, 1, s.rstd);
    }
  }
  void run(Device& device, bool accumulate, bool trained) {
    LayerNormBackward args{x, statistics, weight, dy, dx, accumulate, {}, {}};
    if (trained) args.dweight = dweight, args.dbias = dbias;
    layer_norm(device, args);
  }
};

// y's dependence on every x of its row, written out as a Jacobian: dy_c/dx_j = w_c rstd (delta_cj - 1/C - xhat_c xhat_j
// / C).
void check_backward(DType dtype, Index rows, Index cols, bool accumulate, bool trained) {
  SCOPED_TRACE(text(rows, "x", cols, " ", name(dtype), accumulate ? " +=" : " =", trained ? " trained" : " frozen"));
  Backward b(dtype, rows, cols), before(dtype, rows, cols);
  b.run(*make_host_device(2), accumulate, trained);
  Doubles dx(rows, cols), size(rows, cols), dweight(1, cols), dbias(1, cols), weight_size(1, cols), bias_size(1, cols);
  for (Index r = 0; r < rows; ++r) {
    const double mean = b.statistics(r, 0), rstd = b.statistics(r, 1);
    const auto xhat = [&](Index c) { return (b.x(r, c) - mean) * rstd; };
    for (Index j = 0; j < cols; ++j) {
      dx(r, j) = accumulate ? before.dx(r, j) : 0.0;
      size(r, j) = std::abs(dx(r, j));
      for (Index c = 0; c < cols; ++c) {
        const double g = b.dy(r, c) * b.weight(0, c) * rstd;
        dx(r, j) += g * ((c == j) - 1.0 / cols - xhat(c) * xhat(j) / cols);
        size(r, j) += std::abs(g) * ((c == j) + 1.0 / cols + std::abs(xhat(c) * xhat(j)) / cols);
      }
      dweight(0, j) += b.dy(r, j) * xhat(j);
      dbias(0, j) += b.dy(r, j);
      weight_size(0, j) += std::abs(b.dy(r, j)) * (std::abs(b.x(r, j)) + std::abs(mean)) * rstd;
      bias_size(0, j) += std::abs(b.dy(r, j));
    }
  }
  // (x - mean) loses up to |mean| / |x - mean| more than one rounding: counted by the 8 of roundings() at mean 2.
  expect_close(
      b.dx, dx,
      [&](Index r, Index c) {
        return 2 * (roundings(cols) + 8) * kFloatEpsilon * size(r, c) + unit_roundoff(dtype) * std::abs(dx(r, c));
      },
      "dx");
  for (Index c = 0; c < cols; ++c) {
    dweight(0, c) = before.dweight(0, c) + (trained ? dweight(0, c) : 0.0);
    dbias(0, c) = before.dbias(0, c) + (trained ? dbias(0, c) : 0.0);
  }
  const double sums = (std::min<double>(rows, 8 + rows / 64.0 + 64) + 6) * kFloatEpsilon;
  expect_close(
      b.dweight, dweight, [&](Index, Index c) { return sums * (weight_size(0, c) + std::abs(before.dweight(0, c))); },
      "dweight");
  expect_close(
      b.dbias, dbias, [&](Index, Index c) { return sums * (bias_size(0, c) + std::abs(before.dbias(0, c))); }, "dbias");
}

TEST(LayerNorm, BackwardMatchesTheJacobian) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    check_backward(dtype, 3, 37, false, true);
    check_backward(dtype, 700, 40, true, true);
    check_backward(dtype, 5, 200, true, false);
  }
}

TEST(LayerNorm, DoesNotDependOnThreads) {
  expect_thread_independent([](Device& device) {
    Backward b(DType::f32, 333, 130);
    Sample y(DType::f32, 333, 130), bias(DType::f32, 1, 130);
    bias.normals(9);
    layer_norm(device, LayerNormForward{b.x, b.weight, bias, 1e-5f, y, b.statistics});
    b.run(device, true, true);
    auto bytes = y.image();
    for (const Sample* s : {&b.dx, &b.dweight, &b.dbias}) {
      bytes.insert(bytes.end(), s->image().begin(), s->image().end());
    }
    return bytes;
  });
}

TEST(LayerNorm, CostIsTheSameOnMetaAndAsStated) {
  expect_same_cost(Phase::elementwise, [](Device& device) {
    const auto tensor = [&](Index rows, Index cols) {
      Tensor t(device, Category::activation, DType::f32, rows, cols);
      if (!device.meta()) std::memset(t.view().data, 0, t.view().bytes());
      return t;
    };
    Tensor x = tensor(4, 8), y = tensor(4, 8), w = tensor(1, 8), b = tensor(1, 8), s = tensor(4, 2);
    layer_norm(device, LayerNormForward{x, w, b, 1e-5f, y, s});
    EXPECT_EQ(device.profile().entry(Phase::elementwise).bytes, 4.0 * (32 + 32 + 8 + 8 + 8));
    layer_norm(device, LayerNormBackward{x, s, w, y, y, false, w, b});
  });
}

TEST(LayerNorm, NoRowsIsNothing) {
  Backward b(DType::f32, 0, 8), before(DType::f32, 0, 8);
  b.run(*make_host_device(1), false, true);
  EXPECT_EQ(b.dweight.image(), before.dweight.image());
}

TEST(LayerNorm, RefusesOtherExtents) {
  const auto device = make_host_device(1);
  Sample x(DType::f32, 4, 8), weight(DType::f32, 1, 7), bias(DType::f32, 1, 8), y(DType::f32, 4, 8);
  try {
    layer_norm(*device, LayerNormForward{x, weight, bias, 1e-5f, y, {}});
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "layer_norm: weight is 1x7, expected 1x8");
    EXPECT_EQ(error.failure(), Failure::configuration);
  }
}

}  // namespace
}  // namespace lorashard::kernels
