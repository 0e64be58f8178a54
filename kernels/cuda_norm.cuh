// What the norms' kernels share. A row is one warp's, or a whole block's where it is long. What the first pass reads is
// kept in shared memory for the next ones, each thread reading back what it wrote itself; only a row that is too long
// for that is read again.
#pragma once

#include "kernels/cuda_column_sums.cuh"
#include "kernels/cuda_reduce.cuh"

namespace lorashard::kernels {

inline constexpr Index kWarpCols = 1024;        // rows up to this long are a warp's
inline constexpr int kWarpRows = 4;             // and a block has this many of them
inline constexpr Index kKeptBytes = 96 * 1024;  // the least that a block can ask for on the GPUs we build for is 99 KiB

// A launch's work, and where this thread's part of it lies.
struct Rows {
  Index count, cols;
  Index kept;  // floats that a row keeps in shared memory; a multiple of 4

  __device__ Index mine() const { return Index{blockIdx.x} * blockDim.y + threadIdx.y; }
  __device__ bool warps() const { return blockDim.x == 32; }
  __device__ float* keep() const { return shared_memory<float>() + 32 + threadIdx.y * kept; }
  __device__ float sum(float x) const { return warps() ? warp_reduce(x) : block_reduce(x, shared_memory<float>()); }

  // body(c) for the first column of each vector that is this thread's.
  template <int kWidth, class Body>
  __device__ void for_columns(const Body& body) const {
#pragma unroll 2
    for (Index c = Index{threadIdx.x} * kWidth; c < cols; c += Index{blockDim.x} * kWidth) body(c);
  }
};

template <int kWidth>
__device__ void put_kept(float* to, const float (&from)[kWidth]) {
  if constexpr (kWidth == 4) {
    *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
  } else {
    to[0] = from[0];
  }
}
template <int kWidth>
__device__ void load_kept(const float* from, float (&to)[kWidth]) {
  if constexpr (kWidth == 4) {
    const float4 v = *reinterpret_cast<const float4*>(from);
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
  } else {
    to[0] = from[0];
  }
}

// Launches the kernel for the width and the way that fit; `copies` rows of floats are kept per row.
template <template <int, bool> class Kernel, class Args>
void launch_rows(Device& device, Args args, bool vectors, Index copies) {
  Rows& rows = args.rows;
  const bool warps = rows.cols <= kWarpCols;
  rows.kept = copies * ((rows.cols + 3) / 4 * 4);
  const Index down = warps ? std::min<Index>(kWarpRows, rows.count) : 1;
  const auto bytes = [&] { return static_cast<std::size_t>((32 + down * rows.kept) * size_bytes(DType::f32)); };
  const bool kept = static_cast<Index>(bytes()) <= kKeptBytes;
  if (!kept) rows.kept = 0;
  const LaunchShape shape{blocks_for(rows.count, down), dim3(warps ? 32 : kThreads, static_cast<unsigned>(down)),
                          bytes()};
  const cudaStream_t stream = stream_of(device);
  if (vectors && kept) return launch<Kernel<4, true>::run>(stream, shape, args);
  if (vectors) return launch<Kernel<4, false>::run>(stream, shape, args);
  if (kept) return launch<Kernel<1, true>::run>(stream, shape, args);
  launch<Kernel<1, false>::run>(stream, shape, args);
}

template <class... M>
bool all_in_fours(const M&... m) {
  return (rows_in_fours(m) && ...);
}

}  // namespace lorashard::kernels
