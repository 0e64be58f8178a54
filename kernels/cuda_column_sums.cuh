// Sums over the rows of a matrix, of every column at once: first in parts of rows, then over the parts in order.
#pragma once

#include "kernels/cuda_loops.cuh"
#include "kernels/cuda_operations.hpp"

namespace lorashard::kernels {

// A block makes one part's sums of 32 vectors of columns, eight rows at a time.
inline constexpr int kRowsAtOnce = 8;

// parts (cuda_row_parts, kSums, C): what Term adds for each row of a part at columns [c, c + kWidth).
template <int kWidth, class Term>
__global__ void __launch_bounds__(32 * kRowsAtOnce)
    column_parts_kernel(Term term, Index rows, Index cols, Index rows_per_part, Operand parts) {
  constexpr int kSums = Term::kSums;
  const Index c = (Index{blockIdx.x} * 32 + threadIdx.x) * kWidth, part = blockIdx.y;
  const Index begin = part * rows_per_part, end = std::min(begin + rows_per_part, rows);
  float sums[kSums][kWidth] = {};
  if (c < cols) {
#pragma unroll 4
    for (Index r = begin + threadIdx.y; r < end; r += kRowsAtOnce) term(r, c, sums);
  }
  using Vector = float[kSums][kWidth];
  Vector* shared = shared_memory<Vector>();  // (kRowsAtOnce, 32)
#pragma unroll
  for (int s = 0; s < kSums; ++s) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) shared[threadIdx.y * 32 + threadIdx.x][s][i] = sums[s][i];
  }
  __syncthreads();
  if (threadIdx.y != 0 || c >= cols) return;
#pragma unroll
  for (int s = 0; s < kSums; ++s) {
    for (int y = 1; y < kRowsAtOnce; ++y) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sums[s][i] += shared[y * 32 + threadIdx.x][s][i];
    }
    put(parts, part * kSums + s, c, sums[s]);
  }
}

// Of sum 0 and sum 1, C values each.
struct SumTargets {
  float* first;
  float* second = nullptr;
};

// targets += the parts' sums, in order.
static __global__ void __launch_bounds__(kThreads)
    add_parts_kernel(Operand parts, Index part_count, Index cols, SumTargets targets) {
  const Index c = Index{blockIdx.x} * blockDim.x + threadIdx.x;
  if (c >= cols) return;
  const Index sums = gridDim.y, s = blockIdx.y;
  float total = 0;
#pragma unroll 8
  for (Index p = 0; p < part_count; ++p) total += *parts.at<float>(p * sums + s, c);
  (s == 0 ? targets.first : targets.second)[c] += total;
}

struct ColumnSums {
  Index rows, cols;
  bool vectors;  // the term may be asked for four columns at once
  std::byte* scratch;
};
// targets += the term's sums over all rows, made in parts in the scratch.
template <class Term>
void add_column_sums(Device& device, const Term& term, const ColumnSums& shape, const SumTargets& targets) {
  const cudaStream_t stream = stream_of(device);
  const Index part_count = cuda_row_parts(shape.rows), rows_per_part = cuda_rows_per_part(shape.rows);
  const Operand parts{shape.scratch, shape.cols, DType::f32};
  const unsigned width = shape.vectors ? 4 : 1;
  const LaunchShape summing{dim3(blocks_for(shape.cols, 32 * width), static_cast<unsigned>(part_count)),
                            dim3(32, kRowsAtOnce), kRowsAtOnce * 32 * Term::kSums * width * sizeof(float)};
  if (shape.vectors) {
    launch<column_parts_kernel<4, Term>>(stream, summing, term, shape.rows, shape.cols, rows_per_part, parts);
  } else {
    launch<column_parts_kernel<1, Term>>(stream, summing, term, shape.rows, shape.cols, rows_per_part, parts);
  }
  launch<add_parts_kernel>(stream, {dim3(blocks_for(shape.cols, kThreads), Term::kSums), kThreads}, parts, part_count,
                           shape.cols, targets);
}

}  // namespace lorashard::kernels
