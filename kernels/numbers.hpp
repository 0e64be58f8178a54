// The mathematics of one element, written once: host loops and CUDA kernels both call these functions.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/view.hpp"

#ifdef __CUDACC__
#define LORASHARD_BOTH __host__ __device__ __forceinline__
#else
#define LORASHARD_BOTH inline
#endif

namespace lorashard::kernels {

LORASHARD_BOTH float to_float(float x) { return x; }
LORASHARD_BOTH float to_float(bf16 x) { return std::bit_cast<float>(std::uint32_t{x.bits} << 16); }

// Rounds to nearest, ties to even; NaN stays NaN.
LORASHARD_BOTH bf16 to_bf16(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

LORASHARD_BOTH void store(float& to, float x) { to = x; }
LORASHARD_BOTH void store(bf16& to, float x) { to = to_bf16(x); }

// GELU in its tanh form, Hendrycks and Gimpel 2016 (arXiv 1606.08415), and its derivative.
LORASHARD_BOTH float gelu(float x) {
  const float k = 0.7978845608028654f;  // sqrt(2 / pi)
  return 0.5f * x * (1.0f + std::tanh(k * (x + 0.044715f * x * x * x)));
}
LORASHARD_BOTH float gelu_derivative(float x) {
  const float k = 0.7978845608028654f;
  const float t = std::tanh(k * (x + 0.044715f * x * x * x));
  return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * k * (1.0f + 3.0f * 0.044715f * x * x);
}

}  // namespace lorashard::kernels
