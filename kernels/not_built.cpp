// The cuda device of a build without CUDA: there is none, so the operations below are never reached.
#include "kernels/cuda_operations.hpp"

namespace lorashard::kernels {
namespace {

[[noreturn]] void refuse() {
  fail(Failure::configuration,
       "device.kind: found cuda, but this program was built without CUDA; expected host or meta");
}

}  // namespace

std::unique_ptr<Device> make_cuda_device(int, bool) { refuse(); }
int cuda_device_count() { return 0; }
std::string cuda_build() { return "without CUDA"; }

void layer_norm_cuda(Device&, const LayerNormForward&) { refuse(); }
void layer_norm_cuda(Device&, const LayerNormBackward&, std::byte*) { refuse(); }
void rms_norm_cuda(Device&, const RmsNormForward&) { refuse(); }
void rms_norm_cuda(Device&, const RmsNormBackward&, std::byte*) { refuse(); }
void rotary_cuda(Device&, const Rotary&) { refuse(); }
void attention_cuda(Device&, const AttentionForward&) { refuse(); }
void attention_cuda(Device&, const AttentionBackward&, std::byte*) { refuse(); }
void attention_cuda(Device&, const AttentionStep&, std::byte*) { refuse(); }
void fill_cuda(Device&, Matrix, float) { refuse(); }
void copy_cuda(Device&, ConstMatrix, Matrix) { refuse(); }
void add_cuda(Device&, ConstMatrix, Matrix, float) { refuse(); }
void add_residual_cuda(Device&, ConstMatrix, ConstMatrix, ConstMatrix, Matrix) { refuse(); }
void gelu_cuda(Device&, ConstMatrix, Matrix) { refuse(); }
void gelu_backward_cuda(Device&, ConstMatrix, ConstMatrix, Matrix) { refuse(); }
void swiglu_cuda(Device&, ConstMatrix, Matrix) { refuse(); }
void swiglu_backward_cuda(Device&, ConstMatrix, ConstMatrix, Matrix) { refuse(); }
void bias_gradient_cuda(Device&, ConstMatrix, Matrix, std::byte*) { refuse(); }
void dropout_cuda(Device&, const DropoutMask&, ConstMatrix, Matrix) { refuse(); }
void dropout_add_cuda(Device&, const DropoutMask&, ConstMatrix, Matrix) { refuse(); }
void fill_normal_cuda(Device&, const NormalFill&, Matrix) { refuse(); }
void embedding_cuda(Device&, const EmbeddingForward&) { refuse(); }
void embedding_cuda(Device&, const EmbeddingBackward&) { refuse(); }
void add_positions_cuda(Device&, ConstMatrix, Index, Index, Matrix) { refuse(); }
void positions_gradient_cuda(Device&, ConstMatrix, Index, Index, Matrix) { refuse(); }
void shard_maximum_cuda(Device&, ConstMatrix, Matrix) { refuse(); }
void shard_sums_cuda(Device&, const ShardSums&) { refuse(); }
void loss_and_gradient_cuda(Device&, const LossAndGradient&) { refuse(); }
void add_sum_cuda(Device&, ConstMatrix, Matrix, std::byte*) { refuse(); }
void add_sum_of_squares_cuda(Device&, ConstMatrix, Matrix, std::byte*) { refuse(); }
void finish_step_cuda(Device&, const StepOutcome&) { refuse(); }
void adamw_cuda(Device&, const AdamW&) { refuse(); }
void gemm_cuda(Device&, const Gemm&, std::byte*) { refuse(); }
double library_gflops_cuda(Device&, Index, Index, Index, DType) { refuse(); }

}  // namespace lorashard::kernels
