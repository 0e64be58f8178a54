// The cuda meanings of the operations, as their contracts call them: the function of the contract has checked the
// arguments and counted the work. A build without CUDA has them from not_built.cpp.
//
// An operation that needs scratch says how much in a plain function beside it, since a plan for a GPU counts it too; the
// contract's function allocates it and hands it over, uninitialised and 256-byte aligned. Sums over rows are made in
// parts whose number depends on the extents alone, then over the parts in order: the same bits every time.
#pragma once

#include <algorithm>

#include "kernels/adamw.hpp"
#include "kernels/attention.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/embedding.hpp"
#include "kernels/gemm.hpp"
#include "kernels/loss.hpp"
#include "kernels/norm.hpp"
#include "kernels/rotary.hpp"

namespace lorashard::kernels {

// Parts that `rows` rows are summed in, and rows of each but the last.
inline Index cuda_row_parts(Index rows) { return std::clamp<Index>((rows + 31) / 32, 1, 64); }
inline Index cuda_rows_per_part(Index rows) { return (rows + cuda_row_parts(rows) - 1) / cuda_row_parts(rows); }
// Parts that `count` elements are summed in.
inline Index cuda_sum_parts(Index count) { return std::clamp<Index>((count + 4095) / 4096, 1, 1024); }

void layer_norm_cuda(Device& device, const LayerNormForward& args);
inline Index layer_norm_cuda_scratch(const LayerNormBackward& args) {
  return args.dweight.empty() ? 0 : cuda_row_parts(args.x.rows) * 2 * args.x.cols * size_bytes(DType::f32);
}
void layer_norm_cuda(Device& device, const LayerNormBackward& args, std::byte* scratch);

void rms_norm_cuda(Device& device, const RmsNormForward& args);
inline Index rms_norm_cuda_scratch(const RmsNormBackward& args) {
  if (args.dweight.empty()) return 0;
  return cuda_row_parts(args.x.rows * (args.x.cols / args.weight.cols)) * args.weight.cols * size_bytes(DType::f32);
}
void rms_norm_cuda(Device& device, const RmsNormBackward& args, std::byte* scratch);
void rotary_cuda(Device& device, const Rotary& args);

void attention_cuda(Device& device, const AttentionForward& args);
inline Index attention_cuda_scratch(const AttentionBackward& args) {  // row sums of dout * out, (H, B*T) f32
  return args.shape.heads * args.shape.rows() * size_bytes(DType::f32);
}
void attention_cuda(Device& device, const AttentionBackward& args, std::byte* scratch);
// A step's keys are summed in parts of so many; of each head and part: D sums, the maximum and the sum of the weights.
inline constexpr Index kStepKeys = 256;
inline Index step_parts(const AttentionShape& s) { return (s.length + kStepKeys - 1) / kStepKeys; }
inline Index attention_cuda_scratch(const AttentionStep& args) {
  const AttentionShape& s = args.shape;
  return s.batch * s.heads * step_parts(s) * (s.head_size + 2) * size_bytes(DType::f32);
}
void attention_cuda(Device& device, const AttentionStep& args, std::byte* scratch);

void fill_cuda(Device& device, Matrix m, float value);
void copy_cuda(Device& device, ConstMatrix from, Matrix to);
void add_cuda(Device& device, ConstMatrix x, Matrix y, float scale);
void add_residual_cuda(Device& device, ConstMatrix x, ConstMatrix residual, ConstMatrix bias, Matrix y);
void gelu_cuda(Device& device, ConstMatrix x, Matrix y);
void gelu_backward_cuda(Device& device, ConstMatrix x, ConstMatrix dy, Matrix dx);
void swiglu_cuda(Device& device, ConstMatrix gate_up, Matrix y);
void swiglu_backward_cuda(Device& device, ConstMatrix gate_up, ConstMatrix dy, Matrix dgate_up);
inline Index bias_gradient_cuda_scratch(ConstMatrix dy) { return cuda_row_parts(dy.rows) * dy.cols * size_bytes(DType::f32); }
void bias_gradient_cuda(Device& device, ConstMatrix dy, Matrix db, std::byte* scratch);
void dropout_cuda(Device& device, const DropoutMask& mask, ConstMatrix x, Matrix y);
void dropout_add_cuda(Device& device, const DropoutMask& mask, ConstMatrix x, Matrix y);
void fill_normal_cuda(Device& device, const NormalFill& args, Matrix m);

void embedding_cuda(Device& device, const EmbeddingForward& args);
void embedding_cuda(Device& device, const EmbeddingBackward& args);
void add_positions_cuda(Device& device, ConstMatrix table, Index first_row, Index length, Matrix y);
void positions_gradient_cuda(Device& device, ConstMatrix dy, Index first_row, Index length, Matrix dtable);

void shard_maximum_cuda(Device& device, ConstMatrix logits, Matrix maximum);
void shard_sums_cuda(Device& device, const ShardSums& args);
void loss_and_gradient_cuda(Device& device, const LossAndGradient& args);
inline Index sum_cuda_scratch(ConstMatrix m) { return cuda_sum_parts(m.count()) * size_bytes(DType::f64); }
void add_sum_cuda(Device& device, ConstMatrix m, Matrix total, std::byte* scratch);

void add_sum_of_squares_cuda(Device& device, ConstMatrix m, Matrix total, std::byte* scratch);  // sum_cuda_scratch
void finish_step_cuda(Device& device, const StepOutcome& args);
void adamw_cuda(Device& device, const AdamW& args);

// What a cuda device holds from its beginning on for all its products: what NVIDIA advises for sm_90, cuBLAS's own default.
inline constexpr Index kCudaProductWorkspaceBytes = Index{32} << 20;
// Products of operands of two types are made with bf16 copies of the f32 one in scratch; see gemm_cuda.cpp.
Index gemm_cuda_scratch(const Gemm& args);
void gemm_cuda(Device& device, const Gemm& args, std::byte* scratch);

// See library_gflops of ceiling.hpp.
double library_gflops_cuda(Device& device, Index m, Index n, Index k, DType dtype);

}  // namespace lorashard::kernels
