// One product against naive double loops, for any layout, type, scale and stride.
#pragma once

#include <algorithm>

#include "kernels/gemm.hpp"
#include "tests/kernels/samples.hpp"

namespace lorashard::kernels {

struct ProductCase {
  Index m, n, k;
  bool transpose_a = false, transpose_b = false;
  DType a = DType::f32, b = DType::f32, c = DType::f32;
  float alpha = 1, beta = 0;
  int bias = 0;  // none, fp32, bf16
  Index gap = 0;
};

inline std::ostream& operator<<(std::ostream& out, const ProductCase& t) {
  return out << t.m << "x" << t.n << "x" << t.k << (t.transpose_a ? " t" : " n") << (t.transpose_b ? "t " : "n ")
             << name(t.a) << " " << name(t.b) << " " << name(t.c) << " alpha " << t.alpha << " beta " << t.beta
             << " bias " << t.bias << " gap " << t.gap;
}

// Operands and result of a case, with normal values.
struct ProductSample {
  explicit ProductSample(const ProductCase& t)
      : a(t.a, t.transpose_a ? t.k : t.m, t.transpose_a ? t.m : t.k, t.gap),
        b(t.b, t.transpose_b ? t.n : t.k, t.transpose_b ? t.k : t.n, t.gap),
        c(t.c, t.m, t.n, t.gap),
        bias(t.bias == 2 ? DType::bf16 : DType::f32, 1, t.n) {
    a.normals(1), b.normals(2), c.normals(3), bias.normals(4);
  }
  Gemm gemm(const ProductCase& t) {
    Gemm result{.a = a, .b = b, .c = c};
    result.transpose_a = t.transpose_a, result.transpose_b = t.transpose_b;
    result.alpha = t.alpha, result.beta = t.beta;
    if (t.bias != 0) result.bias = bias;
    return result;
  }
  Sample a, b, c, bias;
};

// The bound: a sum of k products in fp32, in any order, is off by at most k u sum|a b| (Higham 2002, section 3.1), in
// which scale, beta and bias join as three more terms; rounding into C's type adds u_C of the result. Twice that,
// since Higham's k u is to first order.
inline void expect_product(Device& device, const ProductCase& t) {
  SCOPED_TRACE(testing::PrintToString(t));
  ProductSample sample(t);
  Doubles expected(t.m, t.n), bound(t.m, t.n);
  for (Index i = 0; i < t.m; ++i) {
    for (Index j = 0; j < t.n; ++j) {
      double sum = 0, size = 0;
      for (Index l = 0; l < t.k; ++l) {
        const double term =
            (t.transpose_a ? sample.a(l, i) : sample.a(i, l)) * (t.transpose_b ? sample.b(j, l) : sample.b(l, j));
        sum += term;
        size += std::abs(term);
      }
      const double before = t.beta * sample.c(i, j), bias = t.bias != 0 ? sample.bias(0, j) : 0.0;
      expected(i, j) = t.alpha * sum + before + bias;
      const double scale = std::abs(t.alpha) * size + std::abs(before) + std::abs(bias);
      bound(i, j) = 2 * (t.k + 3) * kFloatEpsilon * scale + 2 * unit_roundoff(t.c) * std::abs(expected(i, j)) + 1e-30;
    }
  }
  gemm(device, sample.gemm(t));
  expect_close(
      sample.c, expected, [&](Index r, Index c) { return bound(r, c); }, "C");
}

inline std::vector<std::byte> product_image(Device& device, const ProductCase& t) {
  ProductSample sample(t);
  gemm(device, sample.gemm(t));
  return sample.c.image();
}

// Calls f(a, b, c) with every combination of element types.
template <class F>
void for_each_type(F f) {
  for (DType a : {DType::f32, DType::bf16}) {
    for (DType b : {DType::f32, DType::bf16}) {
      for (DType c : {DType::f32, DType::bf16}) f(a, b, c);
    }
  }
}

}  // namespace lorashard::kernels
