#include "kernels/elementwise.hpp"
#include "samples.hpp"

namespace lorashard::kernels {
namespace {

// Extents that meet whole blocks, remainders of blocks and of vectors, and one long row.
const std::vector<std::pair<Index, Index>> kExtents = {{1, 1}, {3, 5}, {7, 1031}, {40, 513}, {1, 20000}};

void for_types_and_extents(const std::function<void(DType, DType, Index, Index)>& check) {
  for (const DType a : {DType::f32, DType::bf16}) {
    for (const DType b : {DType::f32, DType::bf16}) {
      for (const auto& [rows, cols] : kExtents) {
        SCOPED_TRACE(text(name(a), " ", name(b), " ", rows, "x", cols));
        check(a, b, rows, cols);
      }
    }
  }
}

float stored(DType dtype, float x) { return dtype == DType::f32 ? x : to_float(to_bf16(x)); }

TEST(Elementwise, FillAndCopyAreExact) {
  const auto device = make_host_device(2);
  for_types_and_extents([&](DType from, DType to, Index rows, Index cols) {
    Sample x(from, rows, cols, 2), y(to, rows, cols, 3);
    x.normals(1);
    fill(*device, y, 1.5f);
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < cols; ++c) ASSERT_EQ(y(r, c), 1.5);
    }
    copy(*device, x, y);
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < cols; ++c) ASSERT_EQ(y(r, c), stored(to, x(r, c)));
    }
  });
}

// One fused or two roundings in float, then one into the element type.
double bound_of(DType dtype, double terms) { return (2 * kFloatEpsilon + unit_roundoff(dtype)) * terms; }

TEST(Elementwise, Add) {
  const auto device = make_host_device(2);
  for_types_and_extents([&](DType from, DType to, Index rows, Index cols) {
    Sample x(from, rows, cols, 1), y(to, rows, cols);
    x.normals(1);
    y.normals(2);
    const Doubles before = to_doubles(y);
    add(*device, x, y, 0.5f);
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < cols; ++c) {
        const double expected = before(r, c) + 0.5 * x(r, c);
        ASSERT_NEAR(y(r, c), expected, bound_of(to, std::abs(before(r, c)) + std::abs(x(r, c))));
      }
    }
  });
}

TEST(Elementwise, AddResidualWithAndWithoutBias) {
  const auto device = make_host_device(2);
  for_types_and_extents([&](DType a, DType b, Index rows, Index cols) {
    Sample x(a, rows, cols), residual(b, rows, cols, 1), bias(a, 1, cols), y(b, rows, cols, 2), none(a, rows, cols);
    x.normals(1);
    residual.normals(2);
    bias.normals(3);
    add_residual(*device, x, residual, bias, y);
    add_residual(*device, x, residual, {}, none);
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < cols; ++c) {
        const double sum = x(r, c) + residual(r, c);
        const double terms = std::abs(x(r, c)) + std::abs(residual(r, c)) + std::abs(bias(0, c));
        ASSERT_NEAR(y(r, c), sum + bias(0, c), bound_of(b, terms));
        ASSERT_NEAR(none(r, c), sum, bound_of(a, terms));
      }
    }
  });
}

TEST(Elementwise, ResultMayBeAnOperand) {
  const auto device = make_host_device(2);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Sample x(dtype, 9, 100, 1), residual(dtype, 9, 100), apart(dtype, 9, 100);
    x.normals(1);
    residual.normals(2);
    add_residual(*device, x, residual, {}, apart);
    add_residual(*device, x, residual, {}, residual);
    EXPECT_EQ(residual.image(), apart.image());
    Sample dy(dtype, 9, 100), dx(dtype, 9, 100);
    dy.normals(3);
    gelu_backward(*device, x, dy, dx);
    gelu_backward(*device, x, dy, dy);
    EXPECT_EQ(dy.image(), dx.image());
  }
}

// test_numbers.cpp holds gelu() against doubles; here every element must be that function's.
TEST(Elementwise, GeluAppliesTheElementsFunction) {
  const auto device = make_host_device(2);
  for_types_and_extents([&](DType from, DType to, Index rows, Index cols) {
    Sample x(from, rows, cols, 3), dy(to, rows, cols), y(to, rows, cols, 1), dx(to, rows, cols);
    x.normals(1, 2.0);
    dy.normals(2);
    gelu(*device, x, y);
    gelu_backward(*device, x, dy, dx);
    // Vector code may fuse where this file's does not: some roundings of a result below the terms |x| and 2 |dy|.
    const double roundings = 40 * kFloatEpsilon + unit_roundoff(to);
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < cols; ++c) {
        const float value = static_cast<float>(x(r, c));
        ASSERT_NEAR(y(r, c), gelu(value), roundings * std::abs(value));
        ASSERT_NEAR(dx(r, c), dy(r, c) * gelu_derivative(value), roundings * 2 * std::abs(dy(r, c)));
      }
    }
  });
}

// test_numbers.cpp holds silu() against doubles. In place as well, where a gradient takes the place of what it needs.
TEST(Elementwise, SwigluAppliesTheElementsFunctions) {
  const auto device = make_host_device(2);
  for_types_and_extents([&](DType from, DType to, Index rows, Index cols) {
    Sample gate_up(from, rows, 2 * cols, 3), dy(to, rows, cols), y(to, rows, cols, 1), dgate_up(from, rows, 2 * cols);
    gate_up.normals(1, 2.0);
    dy.normals(2);
    const Doubles x = to_doubles(gate_up);
    swiglu(*device, gate_up, y);
    swiglu_backward(*device, gate_up, dy, dgate_up);
    swiglu_backward(*device, gate_up, dy, gate_up);
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < cols; ++c) {
        const float gate = static_cast<float>(x(r, c));
        const double up = x(r, cols + c), d = dy(r, c);
        // As for gelu: |silu| <= |gate| and its derivative's terms below 2.
        const double float_error = 40 * kFloatEpsilon, stored_error = float_error + unit_roundoff(from);
        ASSERT_NEAR(y(r, c), silu(gate) * up, (float_error + unit_roundoff(to)) * std::abs(gate * up));
        ASSERT_NEAR(dgate_up(r, c), d * up * silu_derivative(gate), stored_error * 2 * std::abs(d * up));
        ASSERT_NEAR(dgate_up(r, cols + c), d * silu(gate), stored_error * std::abs(d * gate));
        ASSERT_EQ(gate_up(r, c), dgate_up(r, c));
        ASSERT_EQ(gate_up(r, cols + c), dgate_up(r, cols + c));
      }
    }
  });
}

TEST(Elementwise, BiasGradientAddsColumnSums) {
  const auto device = make_host_device(2);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 3}, {64, 128}, {1000, 300}, {65, 129}}) {
      Sample dy(dtype, rows, cols, 5), db(DType::f32, 1, cols);
      // Small integers: every sum is exact in float.
      for (Index r = 0; r < rows; ++r) {
        for (Index c = 0; c < cols; ++c) set_element(dy, r, c, (r * 7 + c * 3) % 17 - 8);
      }
      db.fill(3.0);
      bias_gradient(*device, dy, db);
      for (Index c = 0; c < cols; ++c) {
        double expected = 3.0;
        for (Index r = 0; r < rows; ++r) expected += dy(r, c);
        ASSERT_EQ(db(0, c), expected) << rows << "x" << cols << " column " << c;
      }
    }
  }
}

TEST(Elementwise, DoesNotDependOnThreads) {
  expect_thread_independent([](Device& device) {
    Sample x(DType::f32, 300, 290), y(DType::f32, 300, 290), db(DType::f32, 1, 290);
    x.normals(1);
    db.fill(0);
    gelu(device, x, y);
    bias_gradient(device, y, db);
    swiglu(device, y, x.view().col_range(0, 145));
    swiglu_backward(device, y, x.view().col_range(0, 145), y);
    auto bytes = y.image();
    bytes.insert(bytes.end(), db.image().begin(), db.image().end());
    return bytes;
  });
}

TEST(Elementwise, CostIsTheSameOnMetaAndAsStated) {
  expect_same_cost(Phase::elementwise, [](Device& device) {
    Tensor x(device, Category::activation, DType::bf16, 6, 10), y(device, Category::activation, DType::f32, 6, 10);
    Tensor row(device, Category::activation, DType::f32, 1, 10);
    const auto bytes = [&] { return device.profile().entry(Phase::elementwise).bytes; };
    fill(device, x, 1.0f);
    fill(device, y, 1.0f);
    fill(device, row, 1.0f);
    EXPECT_EQ(bytes(), 120 + 240 + 40);
    copy(device, x, y);
    EXPECT_EQ(bytes(), 400 + 360);
    add(device, x, y, 2.0f);
    EXPECT_EQ(bytes(), 760 + 120 + 480);
    add_residual(device, x, y, row, y);
    EXPECT_EQ(bytes(), 1360 + 120 + 480 + 40);
    gelu(device, x, y);
    gelu_backward(device, x, y, y);
    const Matrix half = y.view().col_range(0, 5);
    const double before = bytes();
    swiglu(device, x, half);
    EXPECT_EQ(bytes() - before, 120 + 120);
    swiglu_backward(device, x, half, y);
    EXPECT_EQ(bytes() - before, 240 + 120 + 120 + 240);
    bias_gradient(device, y, row);
    dropout(device, {{1, 1}, 0.1f, 0, 0, 10}, x, y);
    dropout_add(device, {{1, 1}, 0.1f, 0, 0, 10}, x, y);
    fill_normal(device, {{1, 1}, 0.1f, 0, 0, 10}, y);
  });
}

TEST(Elementwise, EmptyIsNothing) {
  const auto device = make_host_device(2);
  for (const auto& [rows, cols] : {std::pair<Index, Index>{0, 5}, {5, 0}}) {
    Sample x(DType::f32, rows, cols), y(DType::bf16, rows, cols), db(DType::f32, 1, cols), before(DType::f32, 1, cols);
    fill(*device, x, 1.0f);
    copy(*device, x, y);
    add(*device, x, y);
    gelu(*device, x, y);
    Sample pair(DType::f32, rows, 2 * cols);
    swiglu(*device, pair, y);
    swiglu_backward(*device, pair, y, pair);
    dropout(*device, {{1, 1}, 0.5f, 0, 0, cols}, x, y);
    bias_gradient(*device, x, db.normals(1));
    EXPECT_EQ(db.image(), before.normals(1).image());
  }
}

TEST(Elementwise, RefusesOtherExtents) {
  const auto device = make_host_device(1);
  Sample x(DType::f32, 3, 4), y(DType::f32, 3, 5), low(DType::bf16, 1, 4);
  EXPECT_THROW(copy(*device, x, y), Error);
  EXPECT_THROW(add(*device, x, y), Error);
  EXPECT_THROW(add_residual(*device, x, y, {}, x), Error);
  EXPECT_THROW(gelu(*device, x, y), Error);
  EXPECT_THROW(gelu_backward(*device, x, y, x), Error);
  EXPECT_THROW(swiglu(*device, x, y), Error);
  EXPECT_THROW(swiglu_backward(*device, x, y, x), Error);
  EXPECT_THROW(bias_gradient(*device, x, low), Error);
}

}  // namespace
}  // namespace lorashard::kernels
