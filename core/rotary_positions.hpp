// Rotary positions of a model: the frequencies that its shape asks for, on the device, and their use on a fused qkv.
#pragma once

#include <vector>

#include "core/context.hpp"

namespace lorashard::core {

// Of the pairs of a head, D/2 values. none: theta^(-2i/D); linear: that over the factor (position interpolation, Chen
// et al. 2023, arXiv 2306.15595); llama3: low frequencies over the factor, high ones as they are, between the two a
// mixture (Llama 3's release, "use_scaled_rope"); yarn: the same by rotations within the original context (Peng et al.
// 2023, arXiv 2309.00071, section 3.2), mixed along the pairs' numbers as in the authors' code.
std::vector<double> rotary_frequencies(const ModelShape& shape);
// What queries and keys are multiplied with: 1 but for yarn (there, equation 15's square root of 1/t).
double rotary_magnitude(const RopeShape& rope);

class RotaryPositions {
 public:
  explicit RotaryPositions(const Context& context);
  // Turns `qk` (M, n D) in place, row m by its position (m % length, unless the microbatch says); `backward` turns the gradient.
  void turn(Matrix qk, const Microbatch& microbatch, bool backward) const;

 private:
  const Context& context_;
  Tensor frequencies_;
  float magnitude_;
};

}  // namespace lorashard::core
