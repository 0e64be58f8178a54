// The CUDA language for a C++ compiler: what kernels/launch.hpp includes where nvcc does not compile. Each CUDA thread of
// a block is a fiber, so barriers, shuffles and shared memory mean what they mean on a device.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>

namespace lorashard::emulator {

// A kernel with its arguments. Its bytes are the only host memory beside constants and its own stack that a thread may
// read.
struct Closure {
  std::shared_ptr<void> data;
  std::size_t bytes = 0;
  void (*run)(void* data) = nullptr;
};
void queue_kernel(cudaStream_t stream, const char* name, dim3 grid, dim3 block, std::size_t shared_bytes, Closure body);

// Queues a kernel on a stream. `body()` runs one thread; `name` is what a failure names.
template <class Body>
void launch(cudaStream_t stream, const char* name, dim3 grid, dim3 block, std::size_t shared_bytes, Body body) {
  queue_kernel(stream, name, grid, block, shared_bytes,
               {std::make_shared<Body>(std::move(body)), sizeof(Body), [](void* data) { (*static_cast<Body*>(data))(); }});
}

// Of the thread that is running. Only inside a kernel.
const uint3& thread_index();
const uint3& block_index();
const dim3& block_extent();
const dim3& grid_extent();
unsigned char* shared_memory();

// Returns when every thread of the block has arrived.
void block_barrier();

// Every lane of `mask` hands over `bytes` (at most 64) and gets those of all 32 lanes of its warp, lane after lane, valid
// until its next warp operation; bytes of a lane outside the mask are zero. Orders no memory: CUDA promises that of
// __syncwarp alone. A lane that has returned or never comes is an error that names the kernel.
const std::byte* warp_exchange(unsigned mask, const void* mine, std::size_t bytes);

// Returns when every lane of `mask` has arrived; orders memory among them.
inline void warp_barrier(unsigned mask) { warp_exchange(mask, nullptr, 0); }

template <class T>
const T* warp_gather(unsigned mask, const T& mine) {
  static_assert(sizeof(T) <= 64 && std::is_trivially_copyable_v<T>);
  return reinterpret_cast<const T*>(warp_exchange(mask, &mine, sizeof(T)));
}
inline unsigned lane() {
  const uint3& t = thread_index();
  const dim3& b = block_extent();
  return (t.x + b.x * (t.y + b.y * t.z)) % 32;
}

}  // namespace lorashard::emulator

#define threadIdx (::lorashard::emulator::thread_index())
#define blockIdx (::lorashard::emulator::block_index())
#define blockDim (::lorashard::emulator::block_extent())
#define gridDim (::lorashard::emulator::grid_extent())
#define __launch_bounds__(...)

inline void __syncthreads() { ::lorashard::emulator::block_barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { ::lorashard::emulator::warp_barrier(mask); }

// A source lane outside [0, width) of the lane's own section gives the lane's own value, as on a device.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int lane = static_cast<int>(::lorashard::emulator::lane()), section = lane / width * width;
  return ::lorashard::emulator::warp_gather(mask, value)[section + source % width];
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  const int lane = static_cast<int>(::lorashard::emulator::lane()), other = lane ^ lanes;
  const T* all = ::lorashard::emulator::warp_gather(mask, value);
  return other / width > lane / width ? value : all[other];
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned lanes, int width = 32) {
  const unsigned lane = ::lorashard::emulator::lane();
  const T* all = ::lorashard::emulator::warp_gather(mask, value);
  return lane % width + lanes < static_cast<unsigned>(width) ? all[lane + lanes] : value;
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const int* all = ::lorashard::emulator::warp_gather(mask, predicate);
  unsigned bits = 0;
  for (unsigned i = 0; i < 32; ++i) bits |= (mask >> i & 1u) && all[i] != 0 ? 1u << i : 0u;
  return bits;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(unsigned bits) { return __builtin_ffs(static_cast<int>(bits)); }
