// Operations of one pass over memory: everything that is not a product, a norm or an attention.
// Matrices may be f32 or bf16 in any combination and have row strides unless a line says otherwise.
#pragma once

#include "kernels/device.hpp"
#include "kernels/random.hpp"

namespace lorashard::kernels {

// m = value. Of f64 only zeros.
void fill(Device& device, Matrix m, float value);

// to = from, converting the element type where they differ. Same extents.
void copy(Device& device, ConstMatrix from, Matrix to);

// y += scale * x.
void add(Device& device, ConstMatrix x, Matrix y, float scale = 1.0f);

// y (M,C) = x (M,C) + residual (M,C) + bias (1,C); bias may be empty. y may be x or residual.
void add_residual(Device& device, ConstMatrix x, ConstMatrix residual, ConstMatrix bias, Matrix y);

// y = gelu(x), tanh form.
void gelu(Device& device, ConstMatrix x, Matrix y);
// dx = dy * gelu'(x). dx may be dy.
void gelu_backward(Device& device, ConstMatrix x, ConstMatrix dy, Matrix dx);

// y (M,F) = silu(gate) * up, where gate and up are the left and the right half of gate_up (M, 2F): Shazeer 2020 (arXiv
// 2002.05202), section 2.
void swiglu(Device& device, ConstMatrix gate_up, Matrix y);
// dgate_up (M, 2F) from dy (M,F). dgate_up may be gate_up.
void swiglu_backward(Device& device, ConstMatrix gate_up, ConstMatrix dy, Matrix dgate_up);

// db (1,N) f32 += column sums of dy (M,N), rows summed in a fixed order that does not depend on threads.
void bias_gradient(Device& device, ConstMatrix dy, Matrix db);

// Where a rank's matrix lies in the global one, so that a mask is the same on every mesh.
struct DropoutMask {
  RandomKey key;
  float probability = 0.0f;   // of dropping; the rest is scaled by 1 / (1 - probability)
  Index first_row = 0;        // global index of row 0
  Index first_col = 0;        // global index of column 0
  Index global_cols = 0;
};
// y = mask * x / (1 - p), element (r, c) kept when uniform(key, (first_row + r) * global_cols + first_col + c) >= p.
void dropout(Device& device, const DropoutMask& mask, ConstMatrix x, Matrix y);
// y += mask * x / (1 - p): the backward of dropout onto a gradient that exists already.
void dropout_add(Device& device, const DropoutMask& mask, ConstMatrix x, Matrix y);

// m (r, c) = scale * normal(key, (first_row + r) * global_cols + first_col + c): a rank's part of a random tensor.
struct NormalFill {
  RandomKey key;
  float scale = 1.0f;
  Index first_row = 0;
  Index first_col = 0;
  Index global_cols = 0;
};
void fill_normal(Device& device, const NormalFill& args, Matrix m);

}  // namespace lorashard::kernels
