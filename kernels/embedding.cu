#include "kernels/cuda_loops.cuh"
#include "kernels/cuda_operations.hpp"

namespace lorashard::kernels {
namespace {

// Row of the table for row m of a microbatch, or -1.
struct IdRows {
  const std::int32_t* ids;
  Index first, owned;

  __device__ Index operator()(Index m) const {
    const Index row = ids[m] - first;
    return row >= 0 && row < owned ? row : -1;
  }
};

struct Gather {
  IdRows rows;
  Operand table;

  template <int kWidth>
  __device__ void operator()(Index m, Index c, const float (&)[1][kWidth], float (&y)[kWidth]) const {
    const Index row = rows(m);
    if (row >= 0) {
      load(table, row, c, y);
    } else {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) y[i] = 0.0f;
    }
  }
};

struct AddPosition {
  Operand table;
  unsigned first_row, length;  // a 64-bit remainder would cost more registers than all else here

  template <int kWidth>
  __device__ void operator()(Index m, Index c, const float (&before)[1][kWidth], float (&y)[kWidth]) const {
    load(table, (first_row + static_cast<unsigned>(m)) % length, c, y);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) y[i] = before[0][i] + y[i];
  }
};

// Of dy and dtable (both of C columns); a block has a vector of columns a thread.
struct RowSums {
  Index rows, cols;  // of dy
  Operand dy, dtable;
};
LaunchShape sums_shape(Index blocks, Index cols, int width) {
  const Index vectors = (cols + width - 1) / width;
  const auto threads = static_cast<unsigned>(std::min<Index>(kThreads, (vectors + 31) / 32 * 32));
  return {dim3(static_cast<unsigned>(blocks), blocks_for(vectors, threads)), threads};
}
template <int kWidth>
__device__ Index own_column() {
  return (Index{blockIdx.y} * blockDim.x + threadIdx.x) * kWidth;
}

// Ids that a block looks at together: four a thread, a warp's 128 side by side.
constexpr int kIdsPerLane = 4;

// Rows m in [begin, begin + kIdsPerLane * threads) that have this id, in order, into `list`; returns their number.
// `counts` (warps). All threads must arrive.
__device__ int list_rows(const std::int32_t* ids, Index begin, Index rows, std::int32_t id, int* counts, Index* list) {
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const Index first = begin + warp * 32 * kIdsPerLane + lane;
  unsigned found[kIdsPerLane];
  int in_warp = 0;
#pragma unroll
  for (int k = 0; k < kIdsPerLane; ++k) {
    const Index m = first + k * 32;
    found[k] = __ballot_sync(0xffffffffu, m < rows && ids[m] == id);
    in_warp += __popc(found[k]);
  }
  if (lane == 0) counts[warp] = in_warp;
  __syncthreads();
  int place = 0, total = 0;
  for (int w = 0; w < static_cast<int>(blockDim.x / 32); ++w) {
    place += w < warp ? counts[w] : 0;
    total += counts[w];
  }
#pragma unroll
  for (int k = 0; k < kIdsPerLane; ++k) {
    if (found[k] >> lane & 1u) list[place + __popc(found[k] & ((1u << lane) - 1u))] = first + k * 32;
    place += __popc(found[k]);
  }
  __syncthreads();
  return total;
}

// Whether an earlier row than m has its id. All threads must arrive.
__device__ bool comes_again(const std::int32_t* ids, Index m, int* votes) {
  const std::int32_t id = ids[m];
  bool found = false;
  for (Index i = threadIdx.x; i < m && !found; i += blockDim.x) found = ids[i] == id;
  found = __any_sync(0xffffffffu, found);
  if (threadIdx.x % 32 == 0) votes[threadIdx.x / 32] = found;
  __syncthreads();
  int any = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) any |= votes[w];
  __syncthreads();
  return any != 0;
}

// A block for each row and slice of columns: the first row of an id adds all rows that have it, in order, so nothing is
// added atomically. Reading M ids in each of M blocks costs less than sorting them: 8192 rows read 0.3 GB of the cache.
template <int kWidth>
__global__ void __launch_bounds__(kThreads) embedding_gradient_kernel(IdRows table_rows, RowSums args) {
  const Index m = blockIdx.x, row = table_rows(m), c = own_column<kWidth>();
  int* counts = shared_memory<int>();
  if (row < 0 || comes_again(table_rows.ids, m, counts)) return;
  Index* list = shared_memory<Index>(32 * sizeof(int));
  float sums[kWidth] = {};
  if (c < args.cols) load(args.dtable, row, c, sums);
  const Index chunk = Index{kIdsPerLane} * blockDim.x;
  for (Index begin = m; begin < args.rows; begin += chunk) {
    const int count = list_rows(table_rows.ids, begin, args.rows, table_rows.ids[m], counts, list);
    if (c < args.cols) {
#pragma unroll 2
      for (int i = 0; i < count; ++i) {
        float dy[kWidth];
        load(args.dy, list[i], c, dy);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) sums[k] += dy[k];
      }
    }
  }
  if (c < args.cols) put(args.dtable, row, c, sums);
}

// A block for each position and slice of columns.
template <int kWidth>
__global__ void __launch_bounds__(kThreads) positions_gradient_kernel(Index first_row, Index length, RowSums args) {
  const Index position = (first_row + blockIdx.x) % length, c = own_column<kWidth>();
  if (c >= args.cols) return;
  float sums[kWidth] = {};
  load(args.dtable, position, c, sums);
#pragma unroll 4
  for (Index m = blockIdx.x; m < args.rows; m += length) {
    float dy[kWidth];
    load(args.dy, m, c, dy);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) sums[k] += dy[k];
  }
  put(args.dtable, position, c, sums);
}

}  // namespace

void embedding_cuda(Device& device, const EmbeddingForward& args) {
  const IdRows rows{args.ids.data(), args.first, args.table.rows};
  map_rows(device, Gather{rows, operand(args.table)}, in_fours(args.table), args.y);
}

void embedding_cuda(Device& device, const EmbeddingBackward& args) {
  if (args.dy.empty() || args.dtable.empty()) return;
  const IdRows rows{args.ids.data(), args.first, args.dtable.rows};
  const RowSums sums{args.dy.rows, args.dy.cols, operand(args.dy), operand(args.dtable)};
  const bool vectors = rows_in_fours(args.dy) && in_fours(args.dtable);
  LaunchShape shape = sums_shape(args.dy.rows, args.dy.cols, vectors ? 4 : 1);
  shape.shared_bytes = 32 * sizeof(int) + kIdsPerLane * shape.block.x * sizeof(Index);
  if (vectors) {
    launch<embedding_gradient_kernel<4>>(stream_of(device), shape, rows, sums);
  } else {
    launch<embedding_gradient_kernel<1>>(stream_of(device), shape, rows, sums);
  }
}

void add_positions_cuda(Device& device, ConstMatrix table, Index first_row, Index length, Matrix y) {
  first_row %= length;
  if (first_row + y.rows > Index{1} << 32) {
    fail(Failure::configuration, text("add_positions: y is ", extents(y), ", expected at most 2^32 rows on a GPU"));
  }
  const AddPosition add{operand(table), static_cast<unsigned>(first_row), static_cast<unsigned>(length)};
  map_rows(device, add, in_fours(table), y, y);
}

void positions_gradient_cuda(Device& device, ConstMatrix dy, Index first_row, Index length, Matrix dtable) {
  if (dy.empty()) return;
  const RowSums sums{dy.rows, dy.cols, operand(dy), operand(dtable)};
  const bool vectors = rows_in_fours(dy) && in_fours(dtable);
  const LaunchShape shape = sums_shape(std::min(length, dy.rows), dy.cols, vectors ? 4 : 1);
  if (vectors) {
    launch<positions_gradient_kernel<4>>(stream_of(device), shape, first_row, length, sums);
  } else {
    launch<positions_gradient_kernel<1>>(stream_of(device), shape, first_row, length, sums);
  }
}

}  // namespace lorashard::kernels
