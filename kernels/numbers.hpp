// The mathematics of one element, written once: host loops and CUDA kernels both call these functions.
// They hold no branch and call no library, so a compiler turns a loop over them into vector code.
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
  const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const std::uint32_t quiet_nan = (u >> 16) | 0x40u;
  return {static_cast<std::uint16_t>(x != x ? quiet_nan : rounded)};
}

LORASHARD_BOTH void store(float& to, float x) { to = x; }
LORASHARD_BOTH void store(bf16& to, float x) { to = to_bf16(x); }

// condition ? a : b by bits. GCC makes a branch of the conditional operator where one side is a constant that it can
// compute ahead with, and then leaves the whole loop scalar.
LORASHARD_BOTH float select(bool condition, float a, float b) {
  const std::uint32_t mask = 0u - static_cast<std::uint32_t>(condition);
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(a) & mask) | (std::bit_cast<std::uint32_t>(b) & ~mask));
}

// e^x within 1.5 ulp. Below -86.98 (where 2^n would need n < -125) it is 0, so exp(-infinity) = 0; above 88.73 it is
// infinity; NaN stays NaN. x = n ln 2 + r with |r| <= ln 2 / 2, then a polynomial in r (Cephes' coefficients, Moshier
// 1992) and n into the exponent.
LORASHARD_BOTH float exponential(float x) {
  const float lowest = -87.3f, highest = 89.0f;  // n = -126, n = 128
  const float above = select(x < lowest, lowest, x);
  const float clamped = select(above > highest, highest, above);
  // Adding 1.5 * 2^23 rounds to an integer, which then lies in the low bits.
  const float magic = 12582912.0f;
  const float shifted = clamped * 1.44269504088896341f + magic;
  const float n = shifted - magic;
  float r = std::fma(n, -0.693359375f, clamped);
  r = std::fma(n, 2.12194440e-4f, r);
  float p = 1.9875691500e-4f;
  p = std::fma(p, r, 1.3981999507e-3f);
  p = std::fma(p, r, 8.3334519073e-3f);
  p = std::fma(p, r, 4.1665795894e-2f);
  p = std::fma(p, r, 1.6666665459e-1f);
  p = std::fma(p, r, 5.0000001201e-1f);
  p = std::fma(p, r * r, r) + 1.0f;
  // 2^(n - 1), times 2, for n reaches 128, which alone has no float. For n = -126 the bits are those of 0.
  const std::uint32_t exponent = (std::bit_cast<std::uint32_t>(shifted) + 126u) << 23;
  return 2.0f * p * std::bit_cast<float>(exponent);
}

// GELU in its tanh form, Hendrycks and Gimpel 2016 (arXiv 1606.08415), and its derivative. With u the argument of the
// tanh, (1 + tanh u) / 2 = 1 / (1 + e^-2u): the left side cancels for negative u, the right side keeps all digits.
// The number 1.5957691216057308 is 2 sqrt(2 / pi).
LORASHARD_BOTH float gelu_argument(float x) {  // -2u
  return -1.5957691216057308f * (x + 0.044715f * x * x * x);
}
LORASHARD_BOTH float gelu(float x) { return x / (1.0f + exponential(gelu_argument(x))); }
LORASHARD_BOTH float gelu_derivative(float x) {
  // Beyond 80 the derivative is 0 to the last digit; an infinite e would make e * s a NaN.
  const float argument = gelu_argument(x);
  const float e = exponential(select(argument > 80.0f, 80.0f, argument));
  const float s = 1.0f / (1.0f + e);  // and e * s = 1 - s, without its cancellation
  return s + x * s * (e * s) * 1.5957691216057308f * (1.0f + 3.0f * 0.044715f * x * x);
}

// SiLU, x / (1 + e^-x), and its derivative s + x s (1 - s) with s = 1 / (1 + e^-x); e s is 1 - s.
LORASHARD_BOTH float silu(float x) { return x / (1.0f + exponential(-x)); }
LORASHARD_BOTH float silu_derivative(float x) {
  const float e = exponential(select(x < -80.0f, 80.0f, -x));  // as above
  const float s = 1.0f / (1.0f + e);
  return s + x * s * (e * s);
}

// Cosine and sine of an angle of at most 2^31 quarter turns, within 1.5 ulp (cosine and sine near 0: within 2^-50 of
// the angle). The angle = n pi/2 + r, |r| <= pi/4, is taken apart in double, where n times the two parts of pi/2 loses
// nothing; then polynomials in r (Cephes' coefficients).
struct Turn {
  float cosine, sine;
};
LORASHARD_BOTH Turn turn_by(double angle) {
  const double magic = 6755399441055744.0;  // 1.5 * 2^52: the integer lies in the low bits
  const double shifted = angle * 0.63661977236758134 + magic;
  const double n = shifted - magic;
  const float r = static_cast<float>(std::fma(n, -6.123233995736766e-17, std::fma(n, -1.5707963267948966, angle)));
  const float r2 = r * r;
  float sine = std::fma(-1.9515295891e-4f, r2, 8.3321608736e-3f);
  sine = std::fma(sine, r2, -1.6666654611e-1f);
  sine = std::fma(sine * r2, r, r);
  float cosine = std::fma(2.443315711809948e-5f, r2, -1.388731625493765e-3f);
  cosine = std::fma(cosine, r2, 4.166664568298827e-2f);
  cosine = std::fma(cosine * r2, r2, std::fma(-0.5f, r2, 1.0f));
  // Quarter 1 turns (c, s) into (-s, c), quarter 2 into (-c, -s), quarter 3 into (s, -c).
  const std::uint32_t quarter = static_cast<std::uint32_t>(std::bit_cast<std::uint64_t>(shifted));
  const bool odd = (quarter & 1u) != 0;
  const std::uint32_t c = std::bit_cast<std::uint32_t>(select(odd, sine, cosine)) ^ ((quarter + 1u) >> 1 & 1u) << 31;
  const std::uint32_t s = std::bit_cast<std::uint32_t>(select(odd, cosine, sine)) ^ (quarter >> 1 & 1u) << 31;
  return {std::bit_cast<float>(c), std::bit_cast<float>(s)};
}

// One value's AdamW step with what all values share computed beforehand (see adamw.hpp for the formula).
struct AdamWElement {
  float beta1, beta2;
  float rest1, rest2;  // 1 - beta
  float gradient_scale;
  float step_size;   // lr / (1 - beta1^t)
  float over_root2;  // 1 / sqrt(1 - beta2^t)
  float eps;
  float decay;  // lr * weight_decay

  LORASHARD_BOTH void update(float& w, float& m, float& v, float g) const {
    const float scaled = gradient_scale * g;
    m = beta1 * m + rest1 * scaled;
    v = beta2 * v + rest2 * scaled * scaled;
    // One subtraction, so that small decays are not rounded away before the step joins them.
    w -= decay * w + step_size * m / (std::sqrt(v) * over_root2 + eps);
  }
};

}  // namespace lorashard::kernels
