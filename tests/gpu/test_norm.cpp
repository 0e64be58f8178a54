// LayerNorm on the cuda device against the host's meaning.
#include "kernels/norm.hpp"
#include "twin.hpp"

namespace lorashard::kernels {
namespace {

// Inputs of magnitude 1 around a mean of 2, as in tests/kernels/test_norm.cpp. A sum of C terms is made in 16 running
// sums on the host and in 32 or more here: C / 16 + 8 roundings, of terms below 10 and 25.
double roundings(Index cols) { return static_cast<double>(cols) / 16.0 + 8; }

struct Extents {
  Index rows, cols, gap;
};

struct Types {
  DType x, y, weight, bias;
};
std::vector<Types> all_types() {
  std::vector<Types> result;
  for (int i = 0; i < 16; ++i)
    result.push_back({kTypes[i & 1], kTypes[i >> 1 & 1], kTypes[i >> 2 & 1], kTypes[i >> 3]});
  return result;
}

void check_forward(const Types& t, const Extents& e) {
  SCOPED_TRACE(text(name(t.x), " ", name(t.y), " ", name(t.weight), " ", name(t.bias), " ", e.rows, "x", e.cols));
  Twin x(t.x, e.rows, e.cols, e.gap), y(t.y, e.rows, e.cols, e.gap), statistics(DType::f32, e.rows, 2, e.gap);
  Twin weight(t.weight, 1, e.cols), bias(t.bias, 1, e.cols), again(t.y, e.rows, e.cols);
  x.normals(1, 1.0, 2.0);
  weight.normals(2, 0.5, 1.0);
  bias.normals(3);
  Twin::on_both([&](Device& d) {
    layer_norm(d, LayerNormForward{x.on(d), weight.on(d), bias.on(d), 1e-5f, y.on(d), statistics.on(d)});
  });
  Device& d = cuda();
  layer_norm(d, LayerNormForward{x.on(d), weight.on(d), bias.on(d), 1e-5f, again.on(d), {}});
  EXPECT_EQ(again.bytes(), y.bytes());
  // Both devices are off by this much: the mean by its sum's error, rstd by half of the variance's, relative.
  const double relative = 2 * 2 * roundings(e.cols) * kFloatEpsilon;
  const Sample& s = statistics.host();
  statistics.expect_near([&](Index r, Index c) { return relative * (c == 0 ? 10 : s(r, 1)); }, "statistics");
  y.expect_near(
      [&](Index r, Index c) {
        const double size = (std::abs(x.host()(r, c)) + std::abs(s(r, 0))) * s(r, 1) * std::abs(weight.host()(0, c)) +
                            std::abs(bias.host()(0, c));
        return 4 * relative * size * std::max(1.0, 10 * s(r, 1)) + 2 * unit_roundoff(t.y) * std::abs(y.host()(r, c));
      },
      "y");
}

TEST(CudaLayerNorm, ForwardOfAllTypes) {
  SKIP_WITHOUT_GPU();
  for (const Types& t : all_types()) {
    check_forward(t, {5, 37, 3});
    check_forward(t, {3, 64, 0});
  }
}

// A warp's row, a block's row, and one that is read again.
TEST(CudaLayerNorm, ForwardOfAllLengths) {
  SKIP_WITHOUT_GPU();
  const Types plain{DType::f32, DType::f32, DType::f32, DType::f32};
  const Types mixed{DType::bf16, DType::bf16, DType::f32, DType::f32};
  for (const Extents& e : {Extents{1, 2, 0},
                           {9, 31, 1},
                           {4, 768, 4},
                           {6, 1024, 0},
                           {3, 1025, 0},
                           {3, 1028, 4},
                           {2, 4100, 0},
                           {2, 24600, 0},
                           {2, 24601, 0}}) {
    check_forward(plain, e);
    check_forward(mixed, e);
  }
}

TEST(CudaLayerNorm, ExactForPlusMinusOne) {
  SKIP_WITHOUT_GPU();
  Twin x(DType::f32, 1, 64), y(DType::f32, 1, 64), ones(DType::f32, 1, 64), zeros(DType::f32, 1, 64);
  for (Index c = 0; c < 64; ++c) set_element(x.host(), 0, c, 1024 + (c % 2 ? 1 : -1));
  x.send();
  ones.fill(1);
  zeros.fill(0);
  Twin::on_both([&](Device& d) {
    layer_norm(d, LayerNormForward{x.on(d), ones.on(d), zeros.on(d), 0.0f, y.on(d), {}});
  });
  y.expect_same("y");
}

struct Backward {
  Twin x, statistics, weight, dy, dx, dweight, dbias;

  Backward(const Types& t, const Extents& e)
      : x(t.x, e.rows, e.cols, e.gap),
        statistics(DType::f32, e.rows, 2, e.gap),
        weight(t.weight, 1, e.cols),
        dy(t.bias, e.rows, e.cols),
        dx(t.y, e.rows, e.cols, e.gap),
        dweight(DType::f32, 1, e.cols),
        dbias(DType::f32, 1, e.cols) {
    x.normals(1, 1.0, 2.0);
    weight.normals(2, 0.5, 1.0);
    dy.normals(3);
    dx.normals(4);
    dweight.normals(5);
    dbias.normals(6);
    for (Index r = 0; r < e.rows; ++r) {
      set_element(statistics.host(), r, 0, 2.0 + 0.01 * static_cast<double>(r % 7));
      set_element(statistics.host(), r, 1, 1.0 + 0.02 * static_cast<double>(r % 5));
    }
    statistics.send();
  }
  void run(Device& d, bool accumulate, bool trained) {
    LayerNormBackward args{x.on(d), statistics.on(d), weight.on(d), dy.on(d), dx.on(d), accumulate, {}, {}};
    if (trained) args.dweight = dweight.on(d), args.dbias = dbias.on(d);
    layer_norm(d, args);
  }
};

void check_backward(const Types& t, const Extents& e, bool accumulate, bool trained) {
  SCOPED_TRACE(text(name(t.x), " dy ", name(t.bias), " dx ", name(t.y), " weight ", name(t.weight), " ", e.rows, "x",
                    e.cols, accumulate ? " +=" : " =", trained ? " trained" : " frozen"));
  Backward b(t, e), again(t, e);
  const Doubles before = to_doubles(b.dx.host()), weight_before = to_doubles(b.dweight.host());
  Twin::on_both([&](Device& d) { b.run(d, accumulate, trained); });
  again.run(cuda(), accumulate, trained);
  EXPECT_EQ(again.dx.bytes(), b.dx.bytes());
  EXPECT_EQ(again.dweight.bytes(), b.dweight.bytes());
  EXPECT_EQ(again.dbias.bytes(), b.dbias.bytes());
  const auto centred = [&](Index r, Index c) {  // |x| + |mean|, whose difference is xhat / rstd
    return (std::abs(b.x.host()(r, c)) + b.statistics.host()(r, 0)) * b.statistics.host()(r, 1);
  };
  const double cols = static_cast<double>(e.cols);
  std::vector<double> mean_g(e.rows), mean_gx(e.rows);
  for (Index r = 0; r < e.rows; ++r) {
    for (Index c = 0; c < e.cols; ++c) {
      const double g = std::abs(b.dy.host()(r, c) * b.weight.host()(0, c));
      mean_g[r] += g / cols;
      mean_gx[r] += g * centred(r, c) / cols;
    }
  }
  b.dx.expect_near(
      [&](Index r, Index c) {
        const double g = std::abs(b.dy.host()(r, c) * b.weight.host()(0, c));
        const double size = b.statistics.host()(r, 1) * (g + mean_g[r] + centred(r, c) * mean_gx[r]);
        return 2 * (2 * (roundings(e.cols) + 8) * kFloatEpsilon * (size + std::abs(before(r, c))) +
                    unit_roundoff(t.y) * std::abs(b.dx.host()(r, c)));
      },
      "dx");
  if (!trained) {
    b.dweight.expect_same("frozen dweight");
    return;
  }
  // Rows in up to 64 groups there and parts here, in each of which terms are added one after another.
  const double rows = static_cast<double>(e.rows);
  const double sums = 2 * (std::min(rows, 64.0) + rows / 64 + 8 + 6) * kFloatEpsilon;
  b.dweight.expect_near(
      [&](Index, Index c) {
        double size = std::abs(weight_before(0, c));
        for (Index r = 0; r < e.rows; ++r) size += std::abs(b.dy.host()(r, c)) * centred(r, c);
        return sums * size;
      },
      "dweight");
  b.dbias.expect_near(
      [&](Index, Index c) {
        double size = 5;
        for (Index r = 0; r < e.rows; ++r) size += std::abs(b.dy.host()(r, c));
        return sums * size;
      },
      "dbias");
}

TEST(CudaLayerNorm, BackwardOfAllTypes) {
  SKIP_WITHOUT_GPU();
  for (const Types& t : all_types()) {
    check_backward(t, {5, 37, 3}, true, true);
    check_backward(t, {3, 64, 0}, false, true);
  }
}

TEST(CudaLayerNorm, BackwardOfAllExtents) {
  SKIP_WITHOUT_GPU();
  const Types plain{DType::f32, DType::f32, DType::f32, DType::f32};
  for (const Extents& e : {Extents{1, 2, 0},
                           {33, 31, 1},
                           {300, 132, 4},
                           {6, 1024, 0},
                           {3, 1025, 0},
                           {3, 1028, 4},
                           {2, 12300, 0},
                           {2, 12301, 0}}) {
    check_backward(plain, e, true, true);
    check_backward(plain, e, false, false);
  }
}

TEST(CudaLayerNorm, DxMayBeDy) {
  SKIP_WITHOUT_GPU();
  const Types plain{DType::f32, DType::f32, DType::f32, DType::f32};
  Backward apart(plain, {7, 200, 0}), same(plain, {7, 200, 0});
  apart.run(cuda(), false, true);
  Device& d = cuda();
  layer_norm(d, LayerNormBackward{same.x.on(d), same.statistics.on(d), same.weight.on(d), same.dy.on(d), same.dy.on(d),
                                  false, same.dweight.on(d), same.dbias.on(d)});
  EXPECT_EQ(same.dy.bytes(), apart.dx.bytes());
  EXPECT_EQ(same.dweight.bytes(), apart.dweight.bytes());
  EXPECT_EQ(same.dbias.bytes(), apart.dbias.bytes());
}

TEST(CudaLayerNorm, NoRowsIsNothing) {
  SKIP_WITHOUT_GPU();
  const Types plain{DType::f32, DType::f32, DType::f32, DType::f32};
  Backward b(plain, {0, 8, 0});
  b.run(cuda(), false, true);
  b.dweight.expect_same("dweight");
}

}  // namespace
}  // namespace lorashard::kernels
