// The one way a CUDA kernel is started, and the one place that knows whether it is compiled by nvcc for a GPU or by a C++
// compiler for tests/emulator. Included by .cu files alone.
//
//   launch<scale_kernel<float>>(stream, {blocks, kThreads, kThreads * sizeof(float)}, x, n);
//
// All shared memory is dynamic: a kernel asks for its block's bytes with shared_memory<T>(), and the launch says how many.
#pragma once

#include "kernels/cuda.hpp"
#ifndef __CUDACC__
#include <emulator.hpp>  // of tests/emulator, which only its own build has on its path
#endif

namespace lorashard::kernels {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;
};

// This block's shared memory from byte `offset_bytes` on; 16-byte aligned when the offset is.
template <class T>
__device__ T* shared_memory(std::size_t offset_bytes = 0) {
#ifdef __CUDACC__
  extern __shared__ __align__(16) unsigned char block_memory[];
#else
  unsigned char* block_memory = emulator::shared_memory();
#endif
  return reinterpret_cast<T*>(block_memory + offset_bytes);
}

// Nothing is launched for a grid without blocks. Throws what the launch itself is refused with; what goes wrong on the
// device shows at a later call.
template <auto kKernel, class... Arguments>
void launch(cudaStream_t stream, const LaunchShape& shape, Arguments... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
#ifdef __CUDACC__
  if (shape.shared_bytes > 48 * 1024) {  // more must be asked for
    checked(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes)),
            "cudaFuncSetAttribute");
  }
  kKernel<<<shape.grid, shape.block, shape.shared_bytes, stream>>>(arguments...);
  checked(cudaGetLastError(), __PRETTY_FUNCTION__);
#else
  emulator::launch(stream, __PRETTY_FUNCTION__, shape.grid, shape.block, shape.shared_bytes,
                   [=] { kKernel(arguments...); });
#endif
}

}  // namespace lorashard::kernels
