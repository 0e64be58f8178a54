// RMSNorm on the cuda device against the host's meaning.
#include "kernels/elementwise.hpp"
#include "kernels/norm.hpp"
#include "twin.hpp"

namespace lorashard::kernels {
namespace {

struct Extents {
  Index rows, cols, groups, gap;  // M, C, G
  Index width() const { return cols * groups; }
};
struct Types {
  DType x, y, weight, dy;
};
std::vector<Types> all_types() {
  std::vector<Types> result;
  for (int i = 0; i < 16; ++i)
    result.push_back({kTypes[i & 1], kTypes[i >> 1 & 1], kTypes[i >> 2 & 1], kTypes[i >> 3]});
  return result;
}
const Types kPlain{DType::f32, DType::f32, DType::f32, DType::f32};
const Types kMixed{DType::bf16, DType::bf16, DType::f32, DType::f32};

std::string name_of(const Types& t, const Extents& e) {
  return text("x ", name(t.x), " y ", name(t.y), " weight ", name(t.weight), " dy ", name(t.dy), " ", e.rows,
              " rows of ", e.groups, " groups of ", e.cols);
}

// A sum of C terms is made in 16 running sums on the host and in 32 or more here: C / 16 + 8 roundings at most.
double roundings(Index cols) { return static_cast<double>(cols) / 16.0 + 8; }

void check_forward(const Types& t, const Extents& e) {
  SCOPED_TRACE(name_of(t, e));
  Twin x(t.x, e.rows, e.width(), e.gap), y(t.y, e.rows, e.width(), e.gap), again(t.y, e.rows, e.width());
  Twin weight(t.weight, 1, e.cols), statistics(DType::f32, e.rows, e.groups, e.gap);
  x.normals(1, 1.0, 0.5);
  weight.normals(2, 0.5, 1.0);
  Twin::on_both([&](Device& d) {
    rms_norm(d, RmsNormForward{x.on(d), weight.on(d), 1e-5f, y.on(d), statistics.on(d)});
  });
  Device& d = cuda();
  rms_norm(d, RmsNormForward{x.on(d), weight.on(d), 1e-5f, again.on(d), {}});
  EXPECT_EQ(again.bytes(), y.bytes());
  // Either device's rstd carries half of its sum's error, and three roundings more.
  const double relative = 2 * (0.5 * roundings(e.cols) + 3) * kFloatEpsilon;
  const Sample &s = statistics.host(), &expected = y.host();
  statistics.expect_near([&](Index r, Index g) { return relative * s(r, g); }, "statistics");
  y.expect_near(
      [&](Index r, Index c) {
        return (relative + 4 * kFloatEpsilon + 2 * unit_roundoff(t.y)) * std::abs(expected(r, c)) + 1e-30;
      },
      "y");
}

TEST(CudaRmsNorm, ForwardOfAllTypes) {
  SKIP_WITHOUT_GPU();
  for (const Types& t : all_types()) {
    check_forward(t, {5, 37, 1, 3});
    check_forward(t, {3, 64, 2, 0});
  }
}

// A warp's row, a block's row, and one that is read again; groups that are whole vectors and others.
TEST(CudaRmsNorm, ForwardOfAllLengths) {
  SKIP_WITHOUT_GPU();
  for (const Extents& e : {Extents{1, 2, 1, 0},
                           {9, 31, 3, 1},
                           {4, 128, 5, 4},
                           {2, 6, 4, 0},
                           {6, 1024, 1, 0},
                           {3, 1025, 1, 0},
                           {2, 1028, 2, 4},
                           {2, 24600, 1, 0},
                           {2, 24601, 1, 0}}) {
    check_forward(kPlain, e);
    check_forward(kMixed, e);
  }
}

TEST(CudaRmsNorm, ExactForPlusMinusFour) {
  SKIP_WITHOUT_GPU();
  Twin x(DType::f32, 4, 64), weight(DType::f32, 1, 16), statistics(DType::f32, 4, 4);
  for (Index r = 0; r < 4; ++r) {
    for (Index c = 0; c < 64; ++c) set_element(x.host(), r, c, (r + c) % 3 == 0 ? -4 : 4);
  }
  x.send();
  weight.fill(2);
  Twin::on_both([&](Device& d) {  // y may be x
    rms_norm(d, RmsNormForward{x.on(d), weight.on(d), 0.0f, x.on(d), statistics.on(d)});
  });
  x.expect_same("y");
  statistics.expect_same("statistics");
  EXPECT_EQ(x.host()(0, 0), -2);
}

struct Backward {
  Twin x, statistics, weight, dy, dx, dweight;

  Backward(const Types& t, const Extents& e)
      : x(t.x, e.rows, e.width(), e.gap),
        statistics(DType::f32, e.rows, e.groups, e.gap),
        weight(t.weight, 1, e.cols),
        dy(t.dy, e.rows, e.width()),
        dx(t.y, e.rows, e.width(), e.gap),
        dweight(DType::f32, 1, e.cols) {
    x.normals(1, 1.0, 0.5);
    weight.normals(2, 0.5, 1.0);
    dy.normals(3);
    dx.normals(4);
    dweight.normals(5);
    for (Index r = 0; r < e.rows; ++r) {
      for (Index g = 0; g < e.groups; ++g) {
        set_element(statistics.host(), r, g, 0.8 + 0.02 * static_cast<double>((r + g) % 5));
      }
    }
    statistics.send();
  }
  void run(Device& d, bool accumulate, bool trained) {
    rms_norm(d, RmsNormBackward{x.on(d), statistics.on(d), weight.on(d), dy.on(d), dx.on(d), accumulate,
                                trained ? dweight.on(d) : Matrix()});
  }
};

void check_backward(const Types& t, const Extents& e, bool accumulate, bool trained) {
  SCOPED_TRACE(text(name_of(t, e), accumulate ? " +=" : " =", trained ? " trained" : " frozen"));
  Backward b(t, e), again(t, e);
  const Doubles before = to_doubles(b.dx.host()), weight_before = to_doubles(b.dweight.host());
  Twin::on_both([&](Device& d) { b.run(d, accumulate, trained); });
  again.run(cuda(), accumulate, trained);
  EXPECT_EQ(again.dx.bytes(), b.dx.bytes());
  EXPECT_EQ(again.dweight.bytes(), b.dweight.bytes());
  const auto xhat = [&](Index r, Index c) { return std::abs(b.x.host()(r, c)) * b.statistics.host()(r, c / e.cols); };
  const auto own = [&](Index r, Index c) { return std::abs(b.dy.host()(r, c) * b.weight.host()(0, c % e.cols)); };
  Doubles mean(e.rows, e.groups);
  for (Index r = 0; r < e.rows; ++r) {
    for (Index c = 0; c < e.width(); ++c) mean(r, c / e.cols) += own(r, c) * xhat(r, c) / static_cast<double>(e.cols);
  }
  b.dx.expect_near(
      [&](Index r, Index c) {
        const Index g = c / e.cols;
        const double size = b.statistics.host()(r, g) * (own(r, c) + xhat(r, c) * mean(r, g));
        return 2 * ((roundings(e.cols) + 10) * kFloatEpsilon * (size + std::abs(before(r, c))) +
                    unit_roundoff(t.y) * std::abs(b.dx.host()(r, c)));
      },
      "dx");
  if (!trained) {
    b.dweight.expect_same("frozen dweight");
    return;
  }
  // Groups in up to 64 parts on either device, in each of which terms are added one after another.
  const double count = static_cast<double>(e.rows * e.groups);
  const double sums = 2 * (std::min(count, 64.0) + count / 64 + 8 + 6) * kFloatEpsilon;
  b.dweight.expect_near(
      [&](Index, Index c) {
        double size = std::abs(weight_before(0, c));
        for (Index r = 0; r < e.rows; ++r) {
          for (Index col = c; col < e.width(); col += e.cols) size += std::abs(b.dy.host()(r, col)) * xhat(r, col);
        }
        return sums * size;
      },
      "dweight");
}

TEST(CudaRmsNorm, BackwardOfAllTypes) {
  SKIP_WITHOUT_GPU();
  for (const Types& t : all_types()) {
    check_backward(t, {5, 37, 1, 3}, true, true);
    check_backward(t, {3, 64, 2, 0}, false, true);
  }
}

TEST(CudaRmsNorm, BackwardOfAllExtents) {
  SKIP_WITHOUT_GPU();
  for (const Extents& e : {Extents{1, 2, 1, 0},
                           {33, 31, 1, 1},
                           {150, 132, 2, 4},
                           {40, 6, 4, 0},
                           {6, 1024, 1, 0},
                           {3, 1025, 1, 0},
                           {2, 1028, 2, 4},
                           {2, 12300, 1, 0},
                           {2, 12301, 1, 0}}) {
    check_backward(kPlain, e, true, true);
    check_backward(kPlain, e, false, false);
  }
}

TEST(CudaRmsNorm, DxMayBeDy) {
  SKIP_WITHOUT_GPU();
  Backward apart(kPlain, {7, 100, 2, 0}), same(kPlain, {7, 100, 2, 0});
  apart.run(cuda(), false, true);
  Device& d = cuda();
  rms_norm(d, RmsNormBackward{same.x.on(d), same.statistics.on(d), same.weight.on(d), same.dy.on(d), same.dy.on(d),
                              false, same.dweight.on(d)});
  EXPECT_EQ(same.dy.bytes(), apart.dx.bytes());
  EXPECT_EQ(same.dweight.bytes(), apart.dweight.bytes());
}

// A plan for a GPU counts the scratch that a run takes.
TEST(CudaRmsNorm, APlanKnowsTheScratch) {
  SKIP_WITHOUT_GPU();
  const auto workspace_of = [](Device& device, bool trained) {
    const auto tensor = [&](Index rows, Index cols) {
      Tensor t(device, Category::activation, DType::f32, rows, cols);
      fill(device, t, 1.0f);
      return t;
    };
    Tensor x = tensor(100, 36), statistics = tensor(100, 3), weight = tensor(1, 12), dx = tensor(100, 36);
    Tensor dweight = tensor(1, trained ? 12 : 0);
    rms_norm(device, RmsNormBackward{x, statistics, weight, dx, dx, false, dweight});
    return device.ledger().peak_bytes(Category::workspace);
  };
  const auto frozen = make_meta_device(DeviceKind::cuda), plan = make_meta_device(DeviceKind::cuda);
  const auto run = make_cuda_device(0);
  const Index planned = workspace_of(*plan, true);
  EXPECT_GE(planned - workspace_of(*frozen, false), 10 * 12 * 4);  // 300 groups in 10 parts
  EXPECT_EQ(workspace_of(*run, true), planned);
}

TEST(CudaRmsNorm, NoRowsIsNothing) {
  SKIP_WITHOUT_GPU();
  Backward b(kPlain, {0, 8, 2, 0});
  b.run(cuda(), false, true);
  b.dweight.expect_same("dweight");
}

}  // namespace
}  // namespace lorashard::kernels
