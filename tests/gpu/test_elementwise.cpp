// Operations of one pass on the cuda device against the host's meaning.
#include "kernels/elementwise.hpp"
#include "twin.hpp"

namespace lorashard::kernels {
namespace {

struct Extents {
  Index rows, cols, gap;
};
// Less than a vector, a vector and a bit, blocks and a bit; gaps that keep rows on whole vectors, and others.
const Extents kExtents[] = {{1, 1, 0},    {1, 3, 0},  {3, 31, 0},   {5, 33, 3}, {2, 257, 1},
                            {3, 1025, 0}, {7, 36, 4}, {1, 5001, 0}, {70, 8, 4}, {3, 2600, 4}};

void for_extents(const std::function<void(const Extents&)>& check) {
  for (const Extents& e : kExtents) {
    SCOPED_TRACE(text(e.rows, "x", e.cols, " and a gap of ", e.gap));
    check(e);
  }
}
void for_types(const std::function<void(DType, DType)>& check) {
  for (const DType a : kTypes) {
    for (const DType b : kTypes) {
      SCOPED_TRACE(text(name(a), " ", name(b)));
      check(a, b);
    }
  }
}

// The two devices' results, each with `roundings` in float of terms of this size and one into the type.
double apart(DType dtype, double roundings, double terms) {
  return 2 * (roundings * kFloatEpsilon + unit_roundoff(dtype)) * terms;
}

TEST(CudaElementwise, FillAndCopyAreExact) {
  SKIP_WITHOUT_GPU();
  for_types([](DType a, DType b) {
    for_extents([&](const Extents& e) {
      Twin x(a, e.rows, e.cols, e.gap), y(b, e.rows, e.cols), z(a, e.rows, e.cols, 1);
      x.normals(1);
      Twin::on_both([&](Device& device) {
        copy(device, x.on(device), y.on(device));
        fill(device, z.on(device), 1.5f);
      });
      y.expect_same("copy");
      z.expect_same("fill");
    });
  });
}

TEST(CudaElementwise, Add) {
  SKIP_WITHOUT_GPU();
  for_types([](DType a, DType b) {
    for_extents([&](const Extents& e) {
      Twin x(a, e.rows, e.cols, e.gap), y(b, e.rows, e.cols, e.gap);
      x.normals(1);
      y.normals(2);
      const Doubles before = to_doubles(y.host());
      Twin::on_both([&](Device& device) { add(device, x.on(device), y.on(device), 0.3f); });
      y.expect_near([&](Index r, Index c) { return apart(b, 2, std::abs(before(r, c)) + std::abs(x.host()(r, c))); },
                    "add");
    });
  });
}

TEST(CudaElementwise, AddResidualOfAllTypes) {
  SKIP_WITHOUT_GPU();
  for_types([](DType a, DType b) {
    for_types([&](DType bias_type, DType to) {
      for (const Extents& e : {Extents{5, 33, 3}, {3, 1028, 0}}) {
        Twin x(a, e.rows, e.cols), residual(b, e.rows, e.cols, e.gap), bias(bias_type, 1, e.cols);
        Twin y(to, e.rows, e.cols, e.gap), plain(to, e.rows, e.cols);
        x.normals(1);
        residual.normals(2);
        bias.normals(3);
        Twin::on_both([&](Device& device) {
          add_residual(device, x.on(device), residual.on(device), bias.on(device), y.on(device));
          add_residual(device, x.on(device), residual.on(device), {}, plain.on(device));
        });
        y.expect_near(
            [&](Index r, Index c) {
              return apart(to, 2,
                           std::abs(x.host()(r, c)) + std::abs(residual.host()(r, c)) + std::abs(bias.host()(0, c)));
            },
            "with bias");
        plain.expect_same("without bias");  // one rounding
      }
    });
  });
}

TEST(CudaElementwise, Gelu) {
  SKIP_WITHOUT_GPU();
  for_types([](DType a, DType b) {
    for_extents([&](const Extents& e) {
      Twin x(a, e.rows, e.cols, e.gap), dy(b, e.rows, e.cols), y(b, e.rows, e.cols, e.gap), dx(a, e.rows, e.cols, 1);
      x.normals(1, 2.0);
      dy.normals(2);
      Twin::on_both([&](Device& device) {
        gelu(device, x.on(device), y.on(device));
        gelu_backward(device, x.on(device), dy.on(device), dx.on(device));
      });
      // 20 roundings of a result below |x|, 40 of one below 2 |dy|.
      y.expect_near([&](Index r, Index c) { return apart(b, 20, std::abs(x.host()(r, c))); }, "gelu");
      dx.expect_near([&](Index r, Index c) { return apart(a, 40, 2 * std::abs(dy.host()(r, c))); }, "backward");
    });
  });
}

// Halves that are whole vectors and halves that are not; in place too.
TEST(CudaElementwise, Swiglu) {
  SKIP_WITHOUT_GPU();
  for_types([](DType a, DType b) {
    for_extents([&](const Extents& e) {
      Twin gate_up(a, e.rows, 2 * e.cols, e.gap), dy(b, e.rows, e.cols), y(b, e.rows, e.cols, e.gap);
      Twin dgate_up(a, e.rows, 2 * e.cols, e.gap);
      gate_up.normals(1, 2.0);
      dy.normals(2);
      Twin::on_both([&](Device& device) {
        swiglu(device, gate_up.on(device), y.on(device));
        swiglu_backward(device, gate_up.on(device), dy.on(device), dgate_up.on(device));
      });
      const Sample& x = gate_up.host();
      // As gelu's: terms below |gate up|, and of the gradients below 2 |dy up| and |dy gate|.
      y.expect_near([&](Index r, Index c) { return apart(b, 20, std::abs(x(r, c) * x(r, e.cols + c))); }, "swiglu");
      dgate_up.expect_near(
          [&](Index r, Index c) {
            const double d = std::abs(dy.host()(r, c % e.cols));
            return apart(a, 40, c < e.cols ? 2 * d * std::abs(x(r, e.cols + c)) : d * std::abs(x(r, c - e.cols)));
          },
          "backward");
      swiglu_backward(cuda(), gate_up.on(cuda()), dy.on(cuda()), gate_up.on(cuda()));
      EXPECT_EQ(gate_up.bytes(), dgate_up.bytes());
    });
  });
}

TEST(CudaElementwise, ResultMayBeAnOperand) {
  SKIP_WITHOUT_GPU();
  for (const DType dtype : kTypes) {
    Twin x(dtype, 9, 1100), residual(dtype, 9, 1100, 1), apart(dtype, 9, 1100), first(dtype, 9, 1100),
        bias(dtype, 1, 1100);
    Twin dy(dtype, 9, 1100), dx(dtype, 9, 1100);
    for (Twin* t : {&x, &first}) t->normals(1);
    residual.normals(2);
    bias.normals(3);
    dy.normals(4);
    Device& device = cuda();
    add_residual(device, x.on(device), residual.on(device), bias.on(device), apart.on(device));
    add_residual(device, first.on(device), residual.on(device), bias.on(device), first.on(device));
    add_residual(device, x.on(device), residual.on(device), bias.on(device), residual.on(device));
    EXPECT_EQ(first.bytes(), apart.bytes());
    EXPECT_EQ(residual.bytes(), apart.bytes());
    gelu_backward(device, x.on(device), dy.on(device), dx.on(device));
    gelu_backward(device, x.on(device), dy.on(device), dy.on(device));
    EXPECT_EQ(dy.bytes(), dx.bytes());
  }
}

// Columns 1 to the last: no vector of four starts where it should.
TEST(CudaElementwise, SlicesNeedNoAlignment) {
  SKIP_WITHOUT_GPU();
  for_types([](DType a, DType b) {
    Twin x(a, 5, 404), y(b, 5, 408, 4);
    x.normals(1);
    y.normals(2);
    Twin::on_both(
        [&](Device& device) { copy(device, x.on(device).col_range(1, 403), y.on(device).col_range(3, 403)); });
    y.expect_same("slice");
  });
}

TEST(CudaElementwise, BiasGradientIsExactForIntegers) {
  SKIP_WITHOUT_GPU();
  for (const DType dtype : kTypes) {
    // 2049 rows are 64 parts of 33 rows, of which the last is empty.
    for (const Extents& e :
         {Extents{1, 1, 0}, {3, 7, 1}, {31, 33, 0}, {33, 132, 4}, {65, 257, 0}, {300, 40, 0}, {2049, 12, 0}}) {
      SCOPED_TRACE(text(name(dtype), " ", e.rows, "x", e.cols));
      Twin dy(dtype, e.rows, e.cols, e.gap), db(DType::f32, 1, e.cols);
      for (Index r = 0; r < e.rows; ++r) {
        for (Index c = 0; c < e.cols; ++c) set_element(dy.host(), r, c, (r * 7 + c * 3) % 17 - 8);
      }
      dy.send();
      db.fill(3.0);
      Twin::on_both([&](Device& device) { bias_gradient(device, dy.on(device), db.on(device)); });
      db.expect_same("db");
    }
  }
}

TEST(CudaElementwise, BiasGradientIsNearAndAlwaysTheSame) {
  SKIP_WITHOUT_GPU();
  const Index rows = 700, cols = 66;
  Twin dy(DType::f32, rows, cols), db(DType::f32, 1, cols), again(DType::f32, 1, cols);
  dy.normals(1);
  db.fill(1);
  again.fill(1);
  Twin::on_both([&](Device& device) { bias_gradient(device, dy.on(device), db.on(device)); });
  bias_gradient(cuda(), dy.on(cuda()), again.on(cuda()));
  EXPECT_EQ(db.bytes(), again.bytes());
  // The host adds 64 rows, then 11 sums; here 4 rows a thread, 8 threads, 22 parts.
  db.expect_near(
      [&](Index, Index c) {
        double terms = 1;
        for (Index r = 0; r < rows; ++r) terms += std::abs(dy.host()(r, c));
        return (64 + 11 + 4 + 8 + 22 + 2) * kFloatEpsilon * terms;
      },
      "db");
}

TEST(CudaElementwise, EmptyIsNothing) {
  SKIP_WITHOUT_GPU();
  Device& device = cuda();
  for (const auto& [rows, cols] : {std::pair<Index, Index>{0, 5}, {5, 0}}) {
    Twin x(DType::f32, rows, cols), y(DType::bf16, rows, cols), db(DType::f32, 1, cols);
    db.fill(2);
    fill(device, x.on(device), 1.0f);
    copy(device, x.on(device), y.on(device));
    gelu(device, x.on(device), y.on(device));
    Twin pair(DType::f32, rows, 2 * cols);
    swiglu(device, pair.on(device), y.on(device));
    swiglu_backward(device, pair.on(device), y.on(device), pair.on(device));
    dropout(device, {{1, 1}, 0.5f, 0, 0, 7}, x.on(device), y.on(device));
    fill_normal(device, {{1, 1}, 0.5f, 0, 0, 7}, x.on(device));
    bias_gradient(device, x.on(device), db.on(device));
    db.expect_same("db");
  }
}

}  // namespace
}  // namespace lorashard::kernels
