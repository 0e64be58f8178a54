// A product on the cuda device against double loops. What is rounded to bf16 by the device's rule (gemm.hpp) is rounded
// so in the reference too, so the bounds hold the sums alone.
#pragma once

#include "kernels/gemm_cuda.hpp"
#include "tests/gpu/twin.hpp"
#include "tests/kernels/products.hpp"

namespace lorashard::kernels {

inline Matrix view_of(Twin& twin) { return twin.on(cuda()); }
inline const Sample& values_of(Twin& twin) { return twin.host(); }
inline ConstMatrix found_in(Twin& twin) { return twin.from_cuda(); }

using Product = void (*)(const Gemm&);
inline void by_contract(const Gemm& args) { gemm(cuda(), args); }
inline void by_own_tiles(const Gemm& args) { gemm_plain_cuda(as_cuda(cuda()), args); }

// Tensor cores cut off what they add beyond 24 bits where a float addition rounds (Fasi, Higham, Mikaitis and Pranesh
// 2021, "Numerical behavior of NVIDIA tensor cores"): twice the unit roundoff.
inline double sum_roundoff(DType operands) { return operands == DType::bf16 ? 2 * kFloatEpsilon : kFloatEpsilon; }

inline ProductArithmetic arithmetic(const ProductCase& t) {
  const bool low = t.a == DType::bf16 || t.b == DType::bf16 || t.c == DType::bf16;
  const DType operands = low ? DType::bf16 : DType::f32;
  return {.operands = operands, .bias = t.c, .sum_roundoff = sum_roundoff(operands)};
}

using CudaProduct = ProductOperands<Twin>;

inline void expect_cuda_product(const ProductCase& t, Product product = by_contract) {
  SCOPED_TRACE(testing::PrintToString(t));
  CudaProduct p(t);
  const ProductReference reference(p, t, arithmetic(t));
  product(p.gemm(t));
  reference.expect(p, t);
  if (t.addend == Addend::other) p.addend.expect_same("addend");
}

}  // namespace lorashard::kernels
