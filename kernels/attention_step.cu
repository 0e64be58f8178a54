// One new token against what is kept of its sequence. A sequence's keys are cut into parts, so that a few heads fill
// the GPU too; a second kernel joins the parts in order. The heads of a group each read its keys and values: out of
// device memory once, for their blocks lie side by side and find them in the second-level cache.
#include "kernels/attention_tiles.cuh"
#include "kernels/cuda_loops.cuh"
#include "kernels/cuda_operations.hpp"
#include "kernels/cuda_reduce.cuh"

namespace lorashard::kernels {
namespace {

constexpr int kPartKeys = static_cast<int>(kStepKeys);
constexpr int kStepThreads = 128;
constexpr int kKeyLanes = 8, kKeysAtOnce = kStepThreads / kKeyLanes;  // lanes that multiply one key

struct Step {
  HeadShape s;  // length: the capacity
  int parts;
  int across;  // threads beside each other along a value's columns: a power of 2
  Operand q, keys, values, out;
  const std::int32_t* lengths;
  float* sums;        // (B, H, parts, D): of values times e^(score - maximum)
  float2* softmaxes;  // (B, H, parts): maximum and sum

  // Keys [first, end) of a part that sequence `batch` sees.
  __device__ int first(int batch, int part) const { return std::max(part * kPartKeys, lengths[batch] - s.window); }
  __device__ int end(int batch, int part) const { return std::min((part + 1) * kPartKeys, lengths[batch]); }
};

// Shared memory of a block: weights (kPartKeys), room (kStepThreads * 4), q (D).
constexpr std::size_t step_bytes(int size) { return (kPartKeys + 4 * kStepThreads + size) * sizeof(float); }

// weights = scores of keys [first, first + count) of rows from `row` on.
template <int kWidth>
__device__ void step_scores(const Step& args, const float* q, Index row, Index col, int count, float* weights) {
  const int lane = static_cast<int>(threadIdx.x) % kKeyLanes, slot = static_cast<int>(threadIdx.x) / kKeyLanes;
#pragma unroll 2
  for (int base = 0; base < count; base += kKeysAtOnce) {  // all lanes in every turn, as the exchange must have them
    const int i = base + slot;
    float sum = 0;
    for (int d = i < count ? lane * kWidth : args.s.size; d < args.s.size; d += kKeyLanes * kWidth) {
      float key[kWidth];
      load(args.keys, row + i, col + d, key);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) sum = fmaf(q[d + k], key[k], sum);
    }
#pragma unroll
    for (int lanes = kKeyLanes / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kWarp, sum, lanes);
    if (lane == 0 && i < count) weights[i] = sum;
  }
}

// to (D) = weights times the values: every across-th thread's rows in turn, then those sums in order.
template <int kWidth>
__device__ void step_values(const Step& args, const float* weights, Index row, Index col, int count, float* room,
                            float* to) {
  const int column = static_cast<int>(threadIdx.x) % args.across, slot = static_cast<int>(threadIdx.x) / args.across;
  const int slots = kStepThreads / args.across, vectors = args.s.size / kWidth;
  for (int begin = 0; begin < vectors; begin += args.across) {
    const int d = (begin + column) * kWidth;
    float sums[kWidth] = {};
#pragma unroll 4
    for (int i = d < args.s.size ? slot : count; i < count; i += slots) {
      float value[kWidth];
      load(args.values, row + i, col + d, value);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) sums[k] = fmaf(weights[i], value[k], sums[k]);
    }
#pragma unroll
    for (int k = 0; k < kWidth; ++k) room[k * kStepThreads + threadIdx.x] = sums[k];
    __syncthreads();
    if (slot == 0 && d < args.s.size) {
      for (int other = 1; other < slots; ++other) {
#pragma unroll
        for (int k = 0; k < kWidth; ++k) sums[k] += room[k * kStepThreads + other * args.across + column];
      }
#pragma unroll
      for (int k = 0; k < kWidth; ++k) to[d + k] = sums[k];
    }
    __syncthreads();  // before the room is written again
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kStepThreads) step_part_kernel(Step args) {
  float *weights = shared_memory<float>(), *room = weights + kPartKeys, *q = room + 4 * kStepThreads;
  const HeadShape& s = args.s;
  const int block = static_cast<int>(blockIdx.x), head = block % s.heads, part = block / s.heads % args.parts;
  const int batch = block / s.heads / args.parts, first = args.first(batch, part);
  const int count = args.end(batch, part) - first, at = (batch * s.heads + head) * args.parts + part;
  if (count <= 0) return;
  for (int d = static_cast<int>(threadIdx.x); d < s.size; d += kStepThreads) {
    float value[1];
    load(args.q, batch, Index{head} * s.size + d, value);
    q[d] = s.scale * value[0];
  }
  __syncthreads();
  const Index row = Index{batch} * s.length + first, col = Index{s.kv_head(head)} * s.size;
  step_scores<kWidth>(args, q, row, col, count, weights);
  __syncthreads();
  float maximum = -INFINITY, sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kStepThreads) maximum = Larger{}(maximum, weights[i]);
  maximum = block_reduce(maximum, room, Larger{});
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kStepThreads) {
    weights[i] = exponential(weights[i] - maximum);
    sum += weights[i];
  }
  sum = block_reduce(sum, room);  // and every thread's weights are there for all
  if (threadIdx.x == 0) args.softmaxes[at] = make_float2(maximum, sum);
  step_values<kWidth>(args, weights, row, col, count, room, args.sums + Index{at} * s.size);
}

// A block for each head joins its parts.
__global__ void __launch_bounds__(kStepThreads) step_join_kernel(Step args) {
  const HeadShape& s = args.s;
  const int place = static_cast<int>(blockIdx.x), batch = place / s.heads, head = place % s.heads;
  const int length = args.lengths[batch], begin = std::max(length - s.window, 0) / kPartKeys;
  const int end = (length - 1) / kPartKeys + 1;
  const Index at = Index{place} * args.parts;
  float maximum = -INFINITY, total = 0;
  for (int p = begin; p < end; ++p) maximum = Larger{}(maximum, args.softmaxes[at + p].x);
  for (int p = begin; p < end; ++p) {
    const float2 softmax = args.softmaxes[at + p];
    total += softmax.y * exponential(softmax.x - maximum);
  }
  for (int d = static_cast<int>(threadIdx.x); d < s.size; d += kStepThreads) {
    float result[1] = {};
    for (int p = begin; p < end; ++p) {
      result[0] += args.sums[(at + p) * s.size + d] * exponential(args.softmaxes[at + p].x - maximum);
    }
    result[0] /= total;
    put(args.out, batch, Index{head} * s.size + d, result);
  }
}

}  // namespace

void attention_cuda(Device& device, const AttentionStep& args, std::byte* scratch) {
  if (args.out.empty() || args.shape.length == 0) return;
  const AttentionShape& s = args.shape;
  const Index parts = step_parts(s), heads = s.batch * s.heads;
  const bool vectors = in_fours(args.keys) && in_fours(args.values) && s.head_size % 4 == 0;
  const auto columns = static_cast<unsigned>(vectors ? s.head_size / 4 : s.head_size);
  auto* softmaxes = reinterpret_cast<float2*>(scratch);
  const Step step{HeadShape(s),
                  static_cast<int>(parts),
                  static_cast<int>(std::min<unsigned>(std::bit_ceil(columns), kStepThreads)),
                  operand(args.q),
                  operand(args.keys),
                  operand(args.values),
                  operand(args.out),
                  args.lengths.data(),
                  reinterpret_cast<float*>(softmaxes + heads * parts),
                  softmaxes};
  const cudaStream_t stream = stream_of(device);
  const LaunchShape shape{grid_of(heads * parts), kStepThreads, step_bytes(step.s.size)};
  if (vectors) {
    launch<step_part_kernel<4>>(stream, shape, step);
  } else {
    launch<step_part_kernel<1>>(stream, shape, step);
  }
  launch<step_join_kernel>(stream, {grid_of(heads), kStepThreads}, step);
}

}  // namespace lorashard::kernels
