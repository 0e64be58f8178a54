// AdamW with decoupled weight decay, Loshchilov and Hutter 2019 (arXiv 1711.05101, algorithm 2), over flat buffers, and
// the sums that clipping needs.
#pragma once

#include "kernels/device.hpp"

namespace lorashard::kernels {

// One step on n values: g' = gradient_scale * g; m = b1 m + (1 - b1) g'; v = b2 v + (1 - b2) g'^2;
// w -= lr * weight_decay * w; w -= lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps). All f32, (1, n).
// `low_precision` (1, n) bf16, when not empty, gets the rounded new w (the compute copy of a trained dense weight).
struct AdamW {
  Matrix weight, first_moment, second_moment;
  ConstMatrix gradient;
  Matrix low_precision;
  float lr = 0, beta1 = 0.9f, beta2 = 0.999f, eps = 1e-8f, weight_decay = 0;
  float gradient_scale = 1.0f;  // clipping
  Index step = 1;               // t, from 1
};
void adamw(Device& device, const AdamW& args);

// Sum of squares of all elements, in double, in an order that depends on the extents alone. Host-visible. 0 on meta.
double sum_of_squares(Device& device, ConstMatrix m);

}  // namespace lorashard::kernels
