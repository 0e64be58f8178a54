// Dropout and random tensors on the cuda device: the host's numbers, wherever a rank's part lies.
#include "kernels/elementwise.hpp"
#include "twin.hpp"

namespace lorashard::kernels {
namespace {

// Parts of a matrix of 1031 columns at places that are no multiple of four, and whole rows that are flattened.
struct Part {
  Index rows, cols, gap, first_row, first_col, global_cols;
};
const Part kParts[] = {{1, 1, 0, 0, 0, 1},       {3, 3, 0, 5, 2, 1031},  {4, 33, 3, 1, 7, 1031},
                       {2, 1031, 0, 3, 0, 1031}, {5, 128, 0, 2, 0, 128}, {3, 260, 4, 9, 4, 1024},
                       {2, 640, 0, 1, 1, 1031}};

void for_parts(const std::function<void(DType, DType, const Part&)>& check) {
  for (const DType a : kTypes) {
    for (const DType b : kTypes) {
      for (const Part& p : kParts) {
        SCOPED_TRACE(text(name(a), " ", name(b), " ", p.rows, "x", p.cols, " at ", p.first_row, ", ", p.first_col));
        check(a, b, p);
      }
    }
  }
}

TEST(CudaDropout, DropsTheSameElements) {
  SKIP_WITHOUT_GPU();
  for_parts([](DType a, DType b, const Part& p) {
    Twin x(a, p.rows, p.cols, p.gap), y(b, p.rows, p.cols, p.gap), sum(b, p.rows, p.cols);
    x.normals(1);
    sum.normals(2);
    const Doubles before = to_doubles(sum.host());
    const DropoutMask mask{{3, 4}, 0.3f, p.first_row, p.first_col, p.global_cols};
    Twin::on_both([&](Device& device) {
      dropout(device, mask, x.on(device), y.on(device));
      dropout_add(device, mask, x.on(device), sum.on(device));
    });
    y.expect_same("dropout");  // one rounding, and one into bf16
    sum.expect_near(
        [&](Index r, Index c) {
          const double terms = std::abs(before(r, c)) + 1.5 * std::abs(x.host()(r, c));
          return 2 * (2 * kFloatEpsilon + unit_roundoff(b)) * terms;
        },
        "dropout_add");
  });
}

TEST(CudaDropout, NoProbabilityIsACopyAndItMayBeInPlace) {
  SKIP_WITHOUT_GPU();
  Device& device = cuda();
  Twin x(DType::f32, 5, 37), y(DType::f32, 5, 37), twice(DType::f32, 5, 37);
  x.normals(1);
  dropout(device, {{1, 1}, 0.0f, 0, 0, 37}, x.on(device), y.on(device));
  EXPECT_EQ(y.bytes(), x.bytes());
  twice.fill(0);
  dropout_add(device, {{1, 1}, 0.0f, 0, 0, 37}, x.on(device), twice.on(device));
  EXPECT_EQ(twice.bytes(), x.bytes());
  dropout(device, {{1, 1}, 0.4f, 0, 0, 37}, x.on(device), y.on(device));
  dropout(device, {{1, 1}, 0.4f, 0, 0, 37}, x.on(device), x.on(device));
  EXPECT_EQ(y.bytes(), x.bytes());
}

// sqrt(-2 log u) < 6 and the cosine are each within 4 roundings of their libraries' values, the scale is one more.
TEST(CudaNormals, AreTheHosts) {
  SKIP_WITHOUT_GPU();
  for (const DType dtype : kTypes) {
    for (const Part& p : kParts) {
      SCOPED_TRACE(text(name(dtype), " ", p.rows, "x", p.cols, " at ", p.first_row, ", ", p.first_col));
      Twin m(dtype, p.rows, p.cols, p.gap);
      const NormalFill args{{5, 6}, 0.5f, p.first_row, p.first_col, p.global_cols};
      Twin::on_both([&](Device& device) { fill_normal(device, args, m.on(device)); });
      m.expect_near(
          [&](Index r, Index c) {
            return 2 * (9 * kFloatEpsilon * 0.5 * 6 + unit_roundoff(dtype) * std::abs(m.host()(r, c)));
          },
          "normals");
    }
  }
}

}  // namespace
}  // namespace lorashard::kernels
