#include "kernels/cuda_loops.cuh"
#include "kernels/cuda_operations.hpp"

namespace lorashard::kernels {
namespace {

struct Update {
  AdamWElement element;  // its gradient_scale is control's, when there is one
  const double* control;
  float *weight, *first_moment, *second_moment;
  const float* gradient;
  bf16* low_precision;
  Index count;

  __device__ void one(const AdamWElement& e, Index i) const {
    e.update(weight[i], first_moment[i], second_moment[i], gradient[i]);
    if (low_precision != nullptr) low_precision[i] = to_bf16(weight[i]);
  }
  __device__ void four(const AdamWElement& e, Index i) const {
    auto& to_w = *reinterpret_cast<float4*>(weight + i);
    auto& to_m = *reinterpret_cast<float4*>(first_moment + i);
    auto& to_v = *reinterpret_cast<float4*>(second_moment + i);
    float4 w = to_w, m = to_m, v = to_v;
    const float4 g = *reinterpret_cast<const float4*>(gradient + i);
    e.update(w.x, m.x, v.x, g.x);
    e.update(w.y, m.y, v.y, g.y);
    e.update(w.z, m.z, v.z, g.z);
    e.update(w.w, m.w, v.w, g.w);
    to_w = w, to_m = m, to_v = v;
    if (low_precision == nullptr) return;
    const float rounded[4] = {w.x, w.y, w.z, w.w};
    put(Operand{reinterpret_cast<std::byte*>(low_precision), 0, DType::bf16}, 0, i, rounded);
  }
};

// A thread has kWidth values: what bounds it is reading 16 bytes and writing 12 (14 with the bf16 copy) of each. Five
// blocks leave 48 registers; without that hint the compiler takes 32 and spills.
template <int kWidth>
__global__ void __launch_bounds__(kThreads, 5) adamw_kernel(Update args) {
  AdamWElement element = args.element;
  if (args.control != nullptr) {
    if (args.control[StepControl::halted] != 0) return;
    element.gradient_scale = static_cast<float>(args.control[StepControl::scale]);
  }
  const Index i = (Index{blockIdx.x} * blockDim.x + threadIdx.x) * kWidth;
  if constexpr (kWidth == 4) {
    if (i + 4 <= args.count) return args.four(element, i);
  }
  for (Index k = i; k < std::min(i + kWidth, args.count); ++k) args.one(element, k);
}

__global__ void finish_step_kernel(Operand totals, Index ranks, double loss_scale, double clip, double* control) {
  double loss = 0, squares = 0;
  for (Index rank = 0; rank < ranks; ++rank) {
    loss += *totals.at<double>(rank, 0);
    squares += *totals.at<double>(rank, 1);
  }
  conclude_step(loss * loss_scale, squares, clip, control);
}

}  // namespace

void adamw_cuda(Device& device, const AdamW& args) {
  const Index count = args.weight.count();
  if (count == 0) return;
  const Update update{adamw_element(args),
                      args.control.empty() ? nullptr : args.control.row<double>(0),
                      args.weight.row<float>(0),
                      args.first_moment.row<float>(0),
                      args.second_moment.row<float>(0),
                      args.gradient.row<float>(0),
                      args.low_precision.empty() ? nullptr : args.low_precision.row<bf16>(0),
                      count};
  const auto fits = [](const ConstMatrix& m) { return m.empty() || in_fours(m); };
  if (fits(args.weight) && fits(args.first_moment) && fits(args.second_moment) && fits(args.gradient) &&
      fits(args.low_precision)) {
    launch<adamw_kernel<4>>(stream_of(device), {blocks_for(count, 4 * kThreads), kThreads}, update);
  } else {
    launch<adamw_kernel<1>>(stream_of(device), {blocks_for(count, kThreads), kThreads}, update);
  }
}

void finish_step_cuda(Device& device, const StepOutcome& args) {
  launch<finish_step_kernel>(stream_of(device), {1, 1}, operand(args.totals), args.totals.rows, args.loss_scale,
                             args.clip, args.control.row<double>(0));
}

}  // namespace lorashard::kernels
