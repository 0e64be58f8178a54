// Sums of all elements of a matrix, in double: a block for each part of the elements, then one block over the parts.
#include "kernels/cuda_loops.cuh"
#include "kernels/cuda_operations.hpp"
#include "kernels/cuda_reduce.cuh"

namespace lorashard::kernels {
namespace {

struct Value {
  __device__ double operator()(double x) const { return x; }
};
struct Square {
  __device__ double operator()(double x) const { return x * x; }
};

// Elements [begin, end) of a part: a multiple of four each but the last.
struct Parts {
  Index count, cols, per_part;
};

// parts[block] = sum of term(x) over the block's elements in row-major order; kWidth 4 where rows have no gaps.
template <int kWidth, class Term>
__global__ void __launch_bounds__(kThreads) sum_parts_kernel(Term term, Operand m, Parts shape, double* parts) {
  const Index begin = Index{blockIdx.x} * shape.per_part, end = std::min(begin + shape.per_part, shape.count);
  double sum = 0;
#pragma unroll 4
  for (Index i = begin + Index{threadIdx.x} * kWidth; i < end; i += Index{blockDim.x} * kWidth) {
    if (kWidth == 4 && i + 4 <= end) {
      float values[4];
      load(m, 0, i, values);
      for (float value : values) sum += term(value);
    } else {
      for (Index k = i; k < std::min(i + kWidth, end); ++k) sum += term(*m.at<float>(k / shape.cols, k % shape.cols));
    }
  }
  sum = block_reduce(sum, shared_memory<double>());
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads) add_to_total_kernel(const double* parts, Index part_count, double* total) {
  double sum = 0;
  for (Index i = threadIdx.x; i < part_count; i += blockDim.x) sum += parts[i];
  sum = block_reduce(sum, shared_memory<double>());
  if (threadIdx.x == 0) *total += sum;
}

template <class Term>
void add_terms(Device& device, const Term& term, ConstMatrix m, Matrix total, std::byte* scratch) {
  if (m.empty()) return;
  const bool vectors = flatten_rows(m) && in_fours(m);
  const Index part_count = cuda_sum_parts(m.count());
  const Parts shape{m.count(), m.cols, (m.count() + 4 * part_count - 1) / (4 * part_count) * 4};
  auto* parts = reinterpret_cast<double*>(scratch);
  const cudaStream_t stream = stream_of(device);
  const LaunchShape blocks{static_cast<unsigned>(part_count), kThreads, kThreads / 32 * sizeof(double)};
  if (vectors) {
    launch<sum_parts_kernel<4, Term>>(stream, blocks, term, operand(m), shape, parts);
  } else {
    launch<sum_parts_kernel<1, Term>>(stream, blocks, term, operand(m), shape, parts);
  }
  launch<add_to_total_kernel>(stream, {1, kThreads, blocks.shared_bytes}, parts, part_count, total.row<double>(0));
}

}  // namespace

void add_sum_cuda(Device& device, ConstMatrix m, Matrix total, std::byte* scratch) {
  add_terms(device, Value{}, m, total, scratch);
}

void add_sum_of_squares_cuda(Device& device, ConstMatrix m, Matrix total, std::byte* scratch) {
  add_terms(device, Square{}, m, total, scratch);
}

}  // namespace lorashard::kernels
