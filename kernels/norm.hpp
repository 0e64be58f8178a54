// LayerNorm over the last axis: Ba, Kiros, Hinton 2016 (arXiv 1607.06450). Statistics in fp32.
#pragma once

#include "kernels/device.hpp"

namespace lorashard::kernels {

// y (M,C) = (x - mean) * rstd * weight + bias, per row; statistics (M,2) f32 get mean and rstd = 1/sqrt(var + eps).
// x and y f32 or bf16; weight and bias (1,C) f32 or bf16. `statistics` may be empty when no gradient needs it.
struct LayerNormForward {
  ConstMatrix x;
  ConstMatrix weight, bias;
  float eps = 1e-5f;
  Matrix y;
  Matrix statistics;
};
void layer_norm(Device& device, const LayerNormForward& args);

// dx (M,C) += gradient through the norm (dx holds the residual branch's gradient already when accumulate is set,
// else it is overwritten). dweight, dbias (1,C) f32 are added to; both empty when the norm is frozen.
// Sums over rows run in a fixed order that does not depend on the number of threads.
struct LayerNormBackward {
  ConstMatrix x;
  ConstMatrix statistics;
  ConstMatrix weight;
  ConstMatrix dy;
  Matrix dx;
  bool accumulate = false;
  Matrix dweight, dbias;
};
void layer_norm(Device& device, const LayerNormBackward& args);

}  // namespace lorashard::kernels
