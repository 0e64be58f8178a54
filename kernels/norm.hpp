// Norms over the last axis: LayerNorm, Ba, Kiros, Hinton 2016 (arXiv 1607.06450), and RMSNorm, Zhang and Sennrich 2019
// (arXiv 1910.07467). Statistics in fp32.
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

// y (M, G C) = x * rstd * weight, where rstd = 1/sqrt(mean of x^2 + eps) of each group of C columns: G groups a row, one
// for a norm of the residual stream, the heads for a norm of queries or keys. weight (1,C); statistics (M,G) f32 get
// rstd, and may be empty when no gradient needs them. Element types and strides as above; y may be x.
struct RmsNormForward {
  ConstMatrix x;
  ConstMatrix weight;
  float eps = 1e-5f;
  Matrix y;
  Matrix statistics;
};
void rms_norm(Device& device, const RmsNormForward& args);

// The same as LayerNormBackward. dx may be dy. dweight (1,C) f32 is added to, over rows and groups; empty when frozen.
struct RmsNormBackward {
  ConstMatrix x;
  ConstMatrix statistics;
  ConstMatrix weight;
  ConstMatrix dy;
  Matrix dx;
  bool accumulate = false;
  Matrix dweight;
};
void rms_norm(Device& device, const RmsNormBackward& args);

}  // namespace lorashard::kernels
