// A block for each row of logits: a vocabulary is long. Rows may start anywhere (50257 columns are common), so a row is
// read as a few elements up to the next multiple of 16 bytes, whole vectors, and the rest.
#include <limits>

#include "kernels/cuda_loops.cuh"
#include "kernels/cuda_operations.hpp"
#include "kernels/cuda_reduce.cuh"

namespace lorashard::kernels {
namespace {

// body(values, column) for this thread's elements of the row z (V), four at a time where they are whole vectors.
template <class Body>
__device__ void for_own(const float* z, Index cols, const Body& body) {
  const Index to_next = (16 - static_cast<Index>(reinterpret_cast<std::uintptr_t>(z) % 16)) % 16 / 4;
  const Index head = std::min(to_next, cols), tail = head + (cols - head) / 4 * 4;
  const auto one = [&](Index c) {
    const float values[1] = {z[c]};
    body(values, c);
  };
  if (threadIdx.x < head) one(threadIdx.x);
#pragma unroll 2
  for (Index c = head + Index{threadIdx.x} * 4; c < tail; c += Index{blockDim.x} * 4) {
    const float4 v = *reinterpret_cast<const float4*>(z + c);
    const float values[4] = {v.x, v.y, v.z, v.w};
    body(values, c);
  }
  if (tail + threadIdx.x < cols) one(tail + threadIdx.x);
}

template <int kWidth>
__device__ void put_own(float* z, const float (&values)[kWidth]) {
  if constexpr (kWidth == 4) {
    *reinterpret_cast<float4*>(z) = make_float4(values[0], values[1], values[2], values[3]);
  } else {
    z[0] = values[0];
  }
}

// Enough threads for a row's vectors, in whole warps.
LaunchShape row_blocks(const ConstMatrix& logits) {
  const auto threads = static_cast<unsigned>(std::clamp<Index>((logits.cols / 4 + 31) / 32 * 32, 32, 512));
  return {static_cast<unsigned>(logits.rows), threads, 16 * sizeof(double)};
}
constexpr int kRowThreads = 512;

__global__ void __launch_bounds__(kRowThreads) maximum_kernel(Operand logits, Index cols, Operand maximum) {
  const Index r = blockIdx.x;
  float largest = -std::numeric_limits<float>::infinity();
  for_own(logits.at<float>(r, 0), cols, [&](const auto& z, Index) {
    for (float value : z) largest = Larger{}(largest, value);
  });
  largest = block_reduce(largest, shared_memory<float>(), Larger{});
  if (threadIdx.x == 0) *maximum.at<float>(r, 0) = largest;
}

// A row's label among this shard's columns, or -1.
struct LabelColumns {
  const std::int32_t* labels;
  Index first, cols;

  __device__ bool scored(Index r) const { return labels[r] != kUnscored; }
  __device__ Index operator()(Index r) const {
    const Index c = labels[r] - first;
    return c >= 0 && c < cols ? c : -1;  // so it is for kUnscored
  }
};

// The sum of a vector is made in float, all sums beyond it in double.
__global__ void __launch_bounds__(kRowThreads)
    sums_kernel(LabelColumns labels, Operand logits, Operand maximum, Operand sums) {
  const Index r = blockIdx.x;
  const float* row = logits.at<float>(r, 0);
  const float largest = *maximum.at<float>(r, 0);
  double exponentials = 0, total = 0;
  for_own(row, labels.cols, [&](const auto& z, Index) {
    float of_exponentials = 0, of_logits = 0;
    for (float value : z) {
      of_exponentials += exponential(value - largest);
      of_logits += value;
    }
    exponentials += of_exponentials;
    total += of_logits;
  });
  exponentials = block_reduce(exponentials, shared_memory<double>());
  total = block_reduce(total, shared_memory<double>());
  if (threadIdx.x != 0) return;
  const Index label = labels(r);
  sums.at<float>(r, 0)[0] = static_cast<float>(exponentials);
  sums.at<float>(r, 0)[1] = label >= 0 ? row[label] : 0.0f;
  sums.at<float>(r, 0)[2] = static_cast<float>(total);
}

struct Loss {
  LabelColumns labels;
  Index rows, vocab;
  float smoothing, scale;
  Operand logits, maximum, sums, losses;
};

__global__ void __launch_bounds__(kThreads) losses_kernel(Loss args) {
  const Index r = Index{blockIdx.x} * blockDim.x + threadIdx.x;
  if (r >= args.rows) return;
  float& loss = *args.losses.at<float>(r, 0);
  if (!args.labels.scored(r)) {
    loss = 0.0f;
    return;
  }
  // In double: lse and the label's logit are large beside their difference once the model is sure.
  const float* sums = args.sums.at<float>(r, 0);
  const double log_sum = *args.maximum.at<float>(r, 0) + std::log(static_cast<double>(sums[0]));
  const double smoothing = args.smoothing;
  loss =
      static_cast<float>(log_sum - (1.0 - smoothing) * sums[1] - smoothing / static_cast<double>(args.vocab) * sums[2]);
}

__global__ void __launch_bounds__(kRowThreads) gradient_kernel(Loss args) {
  const Index r = blockIdx.x, label = args.labels(r);
  float* row = args.logits.at<float>(r, 0);
  const bool scored = args.labels.scored(r);
  const float maximum = *args.maximum.at<float>(r, 0);
  const float over_sum = args.scale / *args.sums.at<float>(r, 0);
  const float everywhere = args.scale * args.smoothing / static_cast<float>(args.vocab);
  const float at_label = args.scale * (1.0f - args.smoothing);
  for_own(row, args.labels.cols, [&](const auto& z, Index c) {
    constexpr int kWidth = sizeof z / sizeof(float);
    float gradient[kWidth];
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      gradient[i] = scored ? exponential(z[i] - maximum) * over_sum - everywhere : 0.0f;
      if (c + i == label) gradient[i] -= at_label;
    }
    put_own(row + c, gradient);
  });
}

}  // namespace

void shard_maximum_cuda(Device& device, ConstMatrix logits, Matrix maximum) {
  launch<maximum_kernel>(stream_of(device), row_blocks(logits), operand(logits), logits.cols, operand(maximum));
}

void shard_sums_cuda(Device& device, const ShardSums& args) {
  const LabelColumns labels{args.labels.data(), args.first, args.logits.cols};
  launch<sums_kernel>(stream_of(device), row_blocks(args.logits), labels, operand(args.logits), operand(args.maximum),
                      operand(args.sums));
}

void loss_and_gradient_cuda(Device& device, const LossAndGradient& args) {
  const Loss loss{{args.labels.data(), args.first, args.logits.cols},
                  args.logits.rows,
                  args.vocab,
                  args.smoothing,
                  args.scale,
                  operand(args.logits),
                  operand(args.maximum),
                  operand(args.sums),
                  operand(args.losses)};
  launch<losses_kernel>(stream_of(device), {blocks_for(args.logits.rows, kThreads), kThreads}, loss);
  if (args.gradient && args.logits.cols > 0) {
    launch<gradient_kernel>(stream_of(device), row_blocks(args.logits), loss);
  }
}

}  // namespace lorashard::kernels
