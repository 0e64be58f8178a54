// The matrix product and the frozen weight it multiplies with.
#pragma once

#include "kernels/device.hpp"

namespace lorashard::kernels {

// C (M,N) = alpha * op(A) (M,K) * op(B) (K,N) + beta * C + bias, where op transposes if asked to.
//
// Every operand may be f32 or bf16 and have a row stride; sums are fp32 and rounded once into C's type. bf16
// operands are multiplied as such where the processor can (AVX512-BF16, AMX); elsewhere they are widened to fp32 in
// workspace, panel by panel. A mixed product (one f32 and one bf16 operand) is computed in fp32.
// Throws Failure::configuration when inner or outer extents differ, or a bias is not 1 x N f32 or bf16.
// Cost: 2 M N K FLOPs; each operand once (C twice when beta is not 0).
struct Gemm {
  ConstMatrix a;
  ConstMatrix b;
  Matrix c;
  bool transpose_a = false;
  bool transpose_b = false;
  float alpha = 1.0f;
  float beta = 0.0f;
  ConstMatrix bias = {};         // (1, N) or empty
  Phase phase = Phase::matmul;   // adapter products say Phase::adapter
};
void gemm(Device& device, const Gemm& args);

// A frozen weight W (out, in) in the storage its products want; only this header and whoever fills it know which.
// Today f32 or bf16 (4-bit joins here), row-major: where oneDNN asks for another layout, it asks for blocks along
// `in` in the forward product and along `out` in the backward one, and one copy cannot have both.
class Weight {
 public:
  Weight() = default;
  // Takes over a row-major matrix (out, in).
  Weight(Device& device, Tensor plain);
  Index out() const { return out_; }
  Index in() const { return in_; }
  DType dtype() const { return dtype_; }
  bool none() const { return out_ == 0; }
  Index bytes() const { return storage_.count() * size_bytes(storage_.dtype()); }

 private:
  friend void multiply(Device&, const struct WeightForward&);
  friend void multiply(Device&, const struct WeightBackward&);
  Tensor storage_;  // (out, in)
  Index out_ = 0;
  Index in_ = 0;
  DType dtype_ = DType::f32;
};

// y (M,out) = x (M,in) W^T + bias. y may be f32 when W is bf16 (a partial sum that is reduced next).
struct WeightForward {
  const Weight& weight;
  ConstMatrix x;
  Matrix y;
  ConstMatrix bias = {};  // (1, out) or empty
};
void multiply(Device& device, const WeightForward& args);

// dx (M,in) = dy (M,out) W.
struct WeightBackward {
  const Weight& weight;
  ConstMatrix dy;
  Matrix dx;
};
void multiply(Device& device, const WeightBackward& args);

// Which arithmetic the host's products use for bf16 operands: "bf16 (AVX512-BF16)", "fp32 (widened)", ...
std::string host_bf16_path();

}  // namespace lorashard::kernels
