// AdamW with decoupled weight decay, Loshchilov and Hutter 2019 (arXiv 1711.05101, algorithm 2), over flat buffers, and
// the sums that clipping needs. A step's loss, norm and clipping factor stay on the device: nothing waits for the host.
#pragma once

#include <cmath>

#include "kernels/device.hpp"
#include "kernels/numbers.hpp"

namespace lorashard::kernels {

// total (1,1) f64 += sum of squares of all elements of m (f32), in double, in an order that depends on the extents alone.
void add_sum_of_squares(Device& device, ConstMatrix m, Matrix total);

// What a step is: its loss, its gradient's norm, the factor that clipping multiplies gradients with, and whether
// training has halted. One row of four f64.
struct StepControl {
  enum Column : Index { loss, grad_norm, scale, halted, columns };
};

// control (1, 4) f64 from each rank's totals. With L and S the sums of the columns of `totals` over its rows, in order:
// loss = L * loss_scale, grad_norm = sqrt(S), scale = clip > 0 ? min(1, clip / (grad_norm + 1e-6)) : 1. A loss or norm
// that is not finite sets halted to 1, and once set it stays: later updates change nothing.
struct StepOutcome {
  ConstMatrix totals;     // (ranks, 2) f64: loss sum, sum of squares
  double loss_scale = 1;  // 1 / scored tokens of the global batch
  double clip = 0;        // 0: off
  Matrix control;         // read (halted) and written; starts as zeros
};
void finish_step(Device& device, const StepOutcome& args);

// One step on n values: g' = scale * g; m = b1 m + (1 - b1) g'; v = b2 v + (1 - b2) g'^2;
// w -= lr * weight_decay * w; w -= lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps). All f32, (1, n).
// `scale` is control's; nothing changes when it has halted. Without a control the scale is 1.
// `low_precision` (1, n) bf16, when not empty, gets the rounded new w (the compute copy of a trained dense weight).
struct AdamW {
  Matrix weight, first_moment, second_moment;
  ConstMatrix gradient;
  Matrix low_precision;
  float lr = 0, beta1 = 0.9f, beta2 = 0.999f, eps = 1e-8f, weight_decay = 0;
  ConstMatrix control = {};  // (1, 4) f64, see StepControl; or empty
  Index step = 1;            // t, from 1
};
void adamw(Device& device, const AdamW& args);

// What all values of one call share, with a gradient scale of 1. 1 - b^t cancels for b near 1, so in double and once.
inline AdamWElement adamw_element(const AdamW& args) {
  const double correction1 = 1.0 - std::pow(static_cast<double>(args.beta1), static_cast<double>(args.step));
  const double correction2 = 1.0 - std::pow(static_cast<double>(args.beta2), static_cast<double>(args.step));
  return {
      .beta1 = args.beta1,
      .beta2 = args.beta2,
      .rest1 = static_cast<float>(1.0 - static_cast<double>(args.beta1)),
      .rest2 = static_cast<float>(1.0 - static_cast<double>(args.beta2)),
      .gradient_scale = 1.0f,
      .step_size = static_cast<float>(args.lr / correction1),
      .over_root2 = static_cast<float>(1.0 / std::sqrt(correction2)),
      .eps = args.eps,
      .decay = static_cast<float>(static_cast<double>(args.lr) * args.weight_decay),
  };
}

// The last step of finish_step, shared by its meanings. `squares` is S.
LORASHARD_BOTH void conclude_step(double loss, double squares, double clip, double* control) {
  const double norm = std::sqrt(squares);
  control[StepControl::loss] = loss;
  control[StepControl::grad_norm] = norm;
  control[StepControl::scale] = clip > 0 && clip < norm + 1e-6 ? clip / (norm + 1e-6) : 1.0;
  // A NaN or an infinity minus itself is not 0.
  if (!(loss - loss == 0) || !(norm - norm == 0)) control[StepControl::halted] = 1;
}

}  // namespace lorashard::kernels
