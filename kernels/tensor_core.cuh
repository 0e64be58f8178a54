// The instructions of a GPU that CUDA C++ has no name for: products on tensor cores, how their operands come out of
// shared memory, and copies into it that a thread does not wait for (sm_80 on). Each function is one instruction of the
// PTX ISA for nvcc, and beside it the same meaning in C++ for tests/emulator.
//
// A warp multiplies a (16, 16) by b (16, 8). With g = lane / 4 and t = lane % 4 a lane holds (PTX ISA, "Matrix
// Fragments for mma.m16n8k16"), two bf16 to a register, the lower column or row in the lower half:
//   a[0] row g,     columns 2t and 2t + 1      a[2] row g,     columns 2t + 8 and 2t + 9
//   a[1] row g + 8, columns 2t and 2t + 1      a[3] row g + 8, columns 2t + 8 and 2t + 9
//   b0 rows 2t and 2t + 1, column g            b1 rows 2t + 8 and 2t + 9, column g
//   c[0], c[1] row g, columns 2t and 2t + 1    c[2], c[3] row g + 8, the same columns
// Hopper and later reach their full rate only with wgmma (sm_90a) and tcgen05 (sm_100a), which take operands from
// shared memory for 4 warps at once; with these instructions an H100 gives about 0.6 of it.
#pragma once

#include <bit>
#include <cstdlib>

#include "kernels/launch.hpp"
#include "kernels/numbers.hpp"

namespace lorashard::kernels {

inline constexpr unsigned kWarp = 0xffffffffu;  // all lanes

__device__ __forceinline__ int warp_lane() { return static_cast<int>(threadIdx.x % 32); }

// x, which is the same in every lane, so that the compiler knows it too: branches on it are the warp's, and it needs no
// register of each lane. For all lanes at once.
__device__ __forceinline__ int warp_uniform(int x) { return __shfl_sync(kWarp, x, 0); }

// Two values rounded to bf16 in one register.
__device__ __forceinline__ unsigned packed_bf16(float low, float high) {
#ifdef __CUDACC__
  unsigned result;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  return result;
#else
  return to_bf16(low).bits | static_cast<unsigned>(to_bf16(high).bits) << 16;
#endif
}

// c += a b, with the sums in fp32 in an order that NVIDIA does not state.
__device__ __forceinline__ void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#ifdef __CUDACC__
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  struct Registers {
    unsigned a[4], b[2];
  };
  const Registers* all = emulator::warp_gather(kWarp, Registers{{a[0], a[1], a[2], a[3]}, {b0, b1}});
  const auto half = [](unsigned pair, int k) {
    return to_float(bf16{static_cast<std::uint16_t>(pair >> 16 * (k % 2))});
  };
  const int g = warp_lane() / 4, t = warp_lane() % 4;
  for (int e = 0; e < 4; ++e) {
    const int column = 2 * t + e % 2;
    for (int k = 0; k < 16; ++k) {
      const int holder = k % 8 / 2, upper = k / 8;
      c[e] += half(all[4 * g + holder].a[e / 2 + 2 * upper], k) * half(all[4 * column + holder].b[upper], k);
    }
  }
#endif
}

// Four 8 x 8 matrices out of shared memory: lane i names 8 contiguous values, row i % 8 of matrix i / 8, 16-byte
// aligned. A lane gets of each the values 2t and 2t + 1 of row g; transposed: of rows 2t and 2t + 1 the value g.
template <bool kTransposed>
__device__ __forceinline__ void load_matrices(unsigned (&to)[4], const bf16* row) {
#ifdef __CUDACC__
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  }
#else
  const bf16* const* rows = emulator::warp_gather(kWarp, row);
  const int g = warp_lane() / 4, t = warp_lane() % 4;
  for (int i = 0; i < 4; ++i) {
    const bf16 *lower = kTransposed ? rows[8 * i + 2 * t] + g : rows[8 * i + g] + 2 * t,
               *upper = kTransposed ? rows[8 * i + 2 * t + 1] + g : rows[8 * i + g] + 2 * t + 1;
    to[i] = lower->bits | static_cast<unsigned>(upper->bits) << 16;
  }
#endif
}

#ifndef __CUDACC__
// What one thread of the running block has asked for and not waited for.
struct LateCopies {
  struct Copy {
    void* to;
    const void* from;
    bool wide, exists;
  };
  static constexpr int kMost = 80;
  int count;
  Copy copies[kMost];
};
inline LateCopies late_copies[1024];

template <class T>
T* late_copy(T* to, const T* from, bool exists) {
  LateCopies& mine = late_copies[threadIdx.x];
  if (mine.count == LateCopies::kMost) std::abort();  // a kernel that never waits
  mine.copies[mine.count++] = {to, from, sizeof(T) == 16, exists};
  return to;
}
#endif

// 16 bytes from device memory into shared memory, both 16-byte aligned, or 16 zero bytes: there once wait_copies() has
// returned, and for other threads behind a barrier after that. The emulator makes the values NaN until then, which
// shows both who does not wait and who still reads what was there before.
__device__ __forceinline__ void copy_later(void* to, const void* from, bool exists) {
#ifdef __CUDACC__
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(exists ? 16 : 0)
               : "memory");
#else
  *late_copy(static_cast<uint4*>(to), static_cast<const uint4*>(from), exists) = uint4{~0u, ~0u, ~0u, ~0u};
#endif
}

// The same of one float.
__device__ __forceinline__ void copy_word_later(float* to, const float* from, bool exists) {
#ifdef __CUDACC__
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(from), "r"(exists ? 4 : 0)
               : "memory");
#else
  *late_copy(to, from, exists) = std::bit_cast<float>(~0u);
#endif
}

// Waits for every copy that this thread has asked for.
__device__ __forceinline__ void wait_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_all;" ::: "memory");
#else
  LateCopies& mine = late_copies[threadIdx.x];
  for (int i = 0; i < mine.count; ++i) {
    const LateCopies::Copy& copy = mine.copies[i];
    if (copy.wide) {
      *static_cast<uint4*>(copy.to) = copy.exists ? *static_cast<const uint4*>(copy.from) : uint4{0, 0, 0, 0};
    } else {
      *static_cast<float*>(copy.to) = copy.exists ? *static_cast<const float*>(copy.from) : 0.0f;
    }
  }
  mine.count = 0;
#endif
}

// 2^x within 2^-22 of itself, one instruction; results below 2^-126 are 0, NaN stays NaN.
__device__ __forceinline__ float fast_exp2(float x) {
#ifdef __CUDACC__
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return std::exp2(x);
#endif
}

}  // namespace lorashard::kernels
