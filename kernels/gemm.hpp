// The matrix product and the frozen weight it multiplies with.
#pragma once

#include "kernels/device.hpp"

namespace lorashard::kernels {

// What becomes of a product's sum z before it is stored in C.
enum class Epilogue {
  none,           // C = z
  gelu,           // C = gelu(z); `aux` (M,N), unless empty, gets z
  gelu_backward,  // C = z * gelu'(aux_in)
};

// C (M,N) = epilogue(z), z = alpha * op(A) (M,K) * op(B) (K,N) + beta * addend + bias, where op transposes if asked to.
//
// Every operand may be f32 or bf16 and have a row stride; sums are fp32 and rounded once into C's type (and once into
// aux's, which is C's type too). bf16 operands are multiplied as such where the processor can (AVX512-BF16, AMX);
// elsewhere they are widened to fp32 in workspace, panel by panel. A mixed product (one f32 and one bf16 operand) is
// computed in fp32. On a GPU it is computed with the f32 operand rounded to bf16, and so are both operands of a bf16
// result; a bias is rounded to C's type. Where a device has no fused form, an epilogue reads z as it was rounded.
// Throws Failure::configuration when inner or outer extents differ, a bias is not 1 x N f32 or bf16, addend, aux or
// aux_in is not M x N of C's type, gelu_backward has no aux_in, aux or aux_in is C, or an addend begins where C or aux
// does but has another stride.
// Cost: 2 M N K FLOPs, and 20 an element for gelu, 30 for its backward; each operand once (a C that is its own addend
// twice).
struct Gemm {
  ConstMatrix a;
  ConstMatrix b;
  Matrix c;
  bool transpose_a = false;
  bool transpose_b = false;
  float alpha = 1.0f;
  float beta = 0.0f;
  ConstMatrix addend = {};  // what beta multiplies, (M, N): C itself (as is empty), aux, or memory apart from both
  ConstMatrix bias = {};    // (1, N) or empty
  Epilogue epilogue = Epilogue::none;
  Matrix aux = {};              // of gelu: (M, N) or empty
  ConstMatrix aux_in = {};      // of gelu_backward: (M, N)
  Phase phase = Phase::matmul;  // adapter products say Phase::adapter
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

// y (M,out) = epilogue(x (M,in) W^T + addend + bias). y may be f32 when W is bf16 (a partial sum that is reduced next).
struct WeightForward {
  const Weight& weight;
  ConstMatrix x;
  Matrix y;
  ConstMatrix bias = {};               // (1, out) or empty
  ConstMatrix addend = {};             // (M, out) or empty; y itself to add to what it holds
  Epilogue epilogue = Epilogue::none;  // none or gelu
  Matrix aux = {};                     // of gelu: (M, out) or empty
};
void multiply(Device& device, const WeightForward& args);

// dx (M,in) = epilogue(dy (M,out) W + addend).
struct WeightBackward {
  const Weight& weight;
  ConstMatrix dy;
  Matrix dx;
  ConstMatrix addend = {};             // (M, in) or empty; dx itself to add to what it holds
  Epilogue epilogue = Epilogue::none;  // none or gelu_backward
  ConstMatrix aux_in = {};             // of gelu_backward: (M, in)
};
void multiply(Device& device, const WeightBackward& args);

// Which arithmetic the host's products use for bf16 operands: "bf16 (AVX512-BF16)", "fp32 (widened)", ...
std::string host_bf16_path();

}  // namespace lorashard::kernels
