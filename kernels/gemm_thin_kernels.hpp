// The loops of products with one small extent, over a range that one thread takes. Private to gemm_thin_host.cpp.
// Written with vector extensions and compiled for eight lanes (whatever -march has) and for sixteen (AVX512), which
// is chosen at run time. Every element is one sum in order of k, so ranges and tiles do not show in a result.
#pragma once

#include "kernels/view.hpp"

namespace lorashard::kernels {

// Columns of a packed operand are padded to this.
inline constexpr Index kThinPad = 16;

// C (rows [first, last), R) = beta C + X (M,K) P (K,R). P has kThinPad-padded rows. X and C f32 or bf16.
struct ThinReduce {
  ConstMatrix x;
  const float* p = nullptr;
  Index p_stride = 0;
  float beta = 0;
  Matrix c;
};
void thin_reduce(const ThinReduce& args, Index first, Index last);

// C (rows [first, last), N) = beta C + U (M,R) Q (R,N), U and Q packed without gaps. C f32 or bf16.
struct ThinUpdate {
  const float* u = nullptr;
  const float* q = nullptr;
  Index rank = 0;
  float beta = 0;
  Matrix c;
};
void thin_update(const ThinUpdate& args, Index first, Index last);

// G (R, columns [first, last)) = D (K,R)^T X (K,N), D and G packed without gaps. X f32 or bf16.
struct ThinGradient {
  const float* d = nullptr;
  Index rank = 0;
  ConstMatrix x;
  float* g = nullptr;
};
void thin_gradient(const ThinGradient& args, Index first, Index last);

}  // namespace lorashard::kernels
