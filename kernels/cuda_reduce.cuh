// Combining one value of each thread of a warp or a block, in an order that depends on the block's extent alone.
#pragma once

#include "kernels/launch.hpp"

namespace lorashard::kernels {

struct Plus {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Larger {  // the first of equals; a NaN is never larger
  __device__ float operator()(float a, float b) const { return b > a ? b : a; }
};

// The 32 values of a warp, combined as a tree; every lane has the result. All lanes must arrive.
template <class T, class Combine = Plus>
__device__ T warp_reduce(T x, Combine combine = {}) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) x = combine(x, __shfl_xor_sync(0xffffffffu, x, lanes));
  return x;
}

// The warps' results, combined in order; every thread has the result. `room` is shared memory for a T of each of the
// block's warps, free again on return. The block is one row of whole warps, and all its threads must arrive.
template <class T, class Combine = Plus>
__device__ T block_reduce(T x, T* room, Combine combine = {}) {
  x = warp_reduce(x, combine);
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
  __syncthreads();
  x = room[0];
  for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) x = combine(x, room[warp]);
  __syncthreads();
  return x;
}

}  // namespace lorashard::kernels
