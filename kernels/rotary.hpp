// Rotary positions: Su et al. 2021 (arXiv 2104.09864), section 3.2.
#pragma once

#include <span>

#include "kernels/device.hpp"

namespace lorashard::kernels {

// Which values of a head turn together: i and i + D/2 (Hugging Face), or 2i and 2i + 1 (the paper, llama2.c).
enum class RotaryPairs { halves, neighbours };

// x and y (M, H D), f32 or bf16, any strides; y may be x. The pair i of each head of row m is turned by the angle
// position * frequencies[i], and multiplied by `magnitude` (YaRN's attention factor; 1 otherwise):
//   y_a = magnitude (x_a cos - x_b sin), y_b = magnitude (x_b cos + x_a sin).
// frequencies (1, D/2) f32. position: `positions[m]` (device memory), or m % length where that is empty.
// The gradient with respect to x is the same with `backward`, which turns the other way. Angles, cosine and sine to within
// float's rounding of the exact angle, also at position 10^6: not by a fast intrinsic.
struct Rotary {
  ConstMatrix x;
  Matrix y;
  ConstMatrix frequencies;
  Index head_size = 0;  // D
  Index length = 0;     // T
  std::span<const std::int32_t> positions;
  RotaryPairs pairs = RotaryPairs::halves;
  float magnitude = 1.0f;
  bool backward = false;
};
void rotary(Device& device, const Rotary& args);

}  // namespace lorashard::kernels
