// Faults within a kernel, planted and caught, and beside each the mended kernel that passes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "kernels/launch.hpp"
#include "tests/emulator/planted.hpp"

namespace lorashard::emulator {
namespace {

using kernels::launch;
using kernels::shared_memory;
using testing::AllOf;
using testing::HasSubstr;

// n elements; the planted fault runs to the end of the last block.
template <bool kMended>
__global__ void double_all(const float* x, float* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (!kMended || i < n) y[i] = 2 * x[i];
}

TEST(Bounds, PastTheEndOfAnAllocation) {
  Planted on;
  const float* x = on.give(std::vector<float>(100, 1.0f));
  float* y = on.make<float>(100);
  launch<double_all<false>>(on.stream, {2, 64}, x, y, 100);
  EXPECT_THAT(on.faults(), AllOf(HasSubstr("double_all<false>: out of bounds: read of 4 bytes at"),
                                 HasSubstr("by block (1,0,0) thread (36,0,0), 400 bytes into an allocation of 400")));
  launch<double_all<true>>(on.stream, {2, 64}, x, y, 100);
  EXPECT_EQ(on.fetch(y, 100), std::vector<float>(100, 2.0f));
  EXPECT_EQ(on.faults(), "");
}

// Rows of four floats as one access of 16 bytes: the last row is short.
template <bool kMended>
__global__ void copy_rows(const float* x, float* y, int n) {
  for (int i = 4 * threadIdx.x; i < n; i += 4 * blockDim.x) {
    if (!kMended || i + 4 <= n) {
      *reinterpret_cast<float4*>(y + i) = *reinterpret_cast<const float4*>(x + i);
    } else {
      for (int k = i; k < n; ++k) y[k] = x[k];
    }
  }
}

TEST(Bounds, VectorAcrossTheEnd) {
  Planted on;
  const float* x = on.give(std::vector<float>(130, 3.0f));
  float* y = on.make<float>(130);
  launch<copy_rows<false>>(on.stream, {1, 32}, x, y, 130);
  EXPECT_THAT(on.faults(), AllOf(HasSubstr("out of bounds"), HasSubstr("of 16 bytes"),
                                 HasSubstr("512 bytes into an allocation of 520")));
  launch<copy_rows<true>>(on.stream, {1, 32}, x, y, 130);
  EXPECT_EQ(on.fetch(y, 130), std::vector<float>(130, 3.0f));
  EXPECT_EQ(on.faults(), "");
}

__global__ void fill(float* x, int n) {
  if (static_cast<int>(threadIdx.x) < n) x[threadIdx.x] = 1.0f;
}

TEST(Bounds, FreedMemory) {
  Planted on;
  void* memory = nullptr;
  cudaMallocAsync(&memory, 256, on.stream);
  cudaFreeAsync(memory, on.stream);
  launch<fill>(on.stream, {1, 64}, static_cast<float*>(memory), 64);
  EXPECT_THAT(on.faults(), HasSubstr("fill: freed memory: write of 4 bytes"));
  cudaMallocAsync(&memory, 256, on.stream);
  launch<fill>(on.stream, {1, 64}, static_cast<float*>(memory), 64);
  cudaFreeAsync(memory, on.stream);  // at once, behind the kernel
  EXPECT_EQ(on.faults(), "");
}

TEST(Bounds, WildAddress) {
  Planted on;
  float* x = on.make<float>(64);
  launch<fill>(on.stream, {1, 64}, x + (1 << 20), 64);
  EXPECT_THAT(on.faults(), HasSubstr("fill: out of bounds: write"));
}

// Elements in reverse, through shared memory.
template <bool kMended>
__global__ void reverse(const int* x, int* y) {
  int* mine = shared_memory<int>();
  mine[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = mine[kMended ? blockDim.x - 1 - threadIdx.x : blockDim.x - threadIdx.x];
}

TEST(Bounds, PastTheEndOfSharedMemory) {
  Planted on;
  const int* x = on.give(std::vector<int>(64, 5));
  int* y = on.make<int>(64);
  launch<reverse<false>>(on.stream, {1, 64, 64 * sizeof(int)}, x, y);
  EXPECT_THAT(on.faults(),
              AllOf(HasSubstr("reverse<false>: out of bounds"), HasSubstr("byte 256 of 256 bytes of shared memory")));
  launch<reverse<true>>(on.stream, {1, 64, 64 * sizeof(int)}, x, y);
  EXPECT_EQ(on.fetch(y, 64), std::vector<int>(64, 5));
  EXPECT_EQ(on.faults(), "");
}

TEST(NeverWritten, DeviceMemory) {
  Planted on;
  float* x = on.make<float>(64);
  float* y = on.make<float>(64);
  launch<fill>(on.stream, {1, 64}, x, 63);
  launch<double_all<true>>(on.stream, {1, 64}, x, y, 64);
  EXPECT_THAT(on.faults(),
              AllOf(HasSubstr("double_all<true>: never written: read of 4 bytes"), HasSubstr("thread (63,0,0)")));
  launch<fill>(on.stream, {1, 64}, x, 64);
  launch<double_all<true>>(on.stream, {1, 64}, x, y, 64);
  EXPECT_EQ(on.faults(), "");
}

TEST(NeverWritten, CopyOfHalfAnElementIsNotEnough) {
  Planted on;
  float* x = on.make<float>(1);
  float* y = on.make<float>(1);
  cudaMemsetAsync(x, 0, 2, on.stream);
  launch<double_all<true>>(on.stream, {1, 1}, x, y, 1);
  EXPECT_THAT(on.faults(), HasSubstr("never written"));
}

TEST(NeverWritten, MemoryUsedAgain) {
  Planted on;
  void* memory = nullptr;
  float* y = on.make<float>(64);
  cudaMallocAsync(&memory, 256, on.stream);
  launch<fill>(on.stream, {1, 64}, static_cast<float*>(memory), 64);
  cudaFreeAsync(memory, on.stream);
  void* again = nullptr;
  cudaMallocAsync(&again, 256, on.stream);
  ASSERT_EQ(again, memory);
  launch<double_all<true>>(on.stream, {1, 64}, static_cast<const float*>(again), y, 64);
  EXPECT_THAT(on.faults(), HasSubstr("never written"));
  cudaFreeAsync(again, on.stream);
}

TEST(NeverWritten, CopyToTheHost) {
  Planted on;
  float* x = on.make<float>(4);
  on.fetch(x, 4);
  EXPECT_THAT(on.faults(), HasSubstr("cudaMemcpyAsync: never written: read of 16 bytes"));
}

// A block's first value for all; shared memory keeps nothing from the block before.
template <bool kMended>
__global__ void broadcast(const int* x, int* y) {
  int* first = shared_memory<int>();
  if (threadIdx.x == 0 && (kMended || blockIdx.x == 0)) *first = x[0];
  __syncthreads();
  y[blockIdx.x * blockDim.x + threadIdx.x] = *first;
}

TEST(NeverWritten, SharedMemory) {
  Planted on;
  const int* x = on.give(std::vector<int>{7});
  int* y = on.make<int>(64);
  launch<broadcast<false>>(on.stream, {2, 32, sizeof(int)}, x, y);
  EXPECT_THAT(on.faults(), AllOf(HasSubstr("broadcast<false>: never written"), HasSubstr("block (1,0,0)")));
  launch<broadcast<true>>(on.stream, {2, 32, sizeof(int)}, x, y);
  EXPECT_EQ(on.fetch(y, 64), std::vector<int>(64, 7));
  EXPECT_EQ(on.faults(), "");
}

__global__ void copy_int(const int* from, int* to) { to[threadIdx.x] = from[threadIdx.x]; }

TEST(HostMemory, ReadByAKernel) {
  Planted on;
  const std::vector<int> host(32, 1);
  int* y = on.make<int>(32);
  launch<copy_int>(on.stream, {1, 32}, host.data(), y);
  EXPECT_THAT(on.faults(), HasSubstr("copy_int: host memory: access of 4 bytes by block (0,0,0) thread (0,0,0)"));
  launch<copy_int>(on.stream, {1, 32}, on.give(host), y);
  EXPECT_EQ(on.faults(), "");
}

__device__ float far_down(float* x, int depth) {
  float here[64];
  for (int i = 0; i < 64; ++i) here[i] = static_cast<float>(i * depth);
  if (depth > 0) here[depth % 64] += far_down(here, depth - 1);
  return here[depth % 64] + x[0];
}
__global__ void recurse(float* x, int depth) { x[0] = far_down(x, depth); }

TEST(StackDeathTest, UsedUp) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto planted = [](int depth) {
    Planted on;
    float* x = on.give(std::vector<float>{1.0f});
    launch<recurse>(on.stream, {1, 1}, x, depth);
    std::_Exit(on.faults().empty() ? 0 : 1);
  };
  EXPECT_EXIT(planted(10000), testing::ExitedWithCode(99), "recurse: a thread needs more than 65536 bytes of stack");
  EXPECT_EXIT(planted(10), testing::ExitedWithCode(0), "");
}

TEST(Launch, ShapesThatNoDeviceTakes) {
  Planted on;
  float* x = on.make<float>(1);
  launch<fill>(on.stream, {1, 1025}, x, 1);
  EXPECT_THAT(on.faults(), HasSubstr("fill: a block of 1025 threads"));
  launch<fill>(on.stream, {dim3(1, 65536), 1}, x, 1);
  EXPECT_THAT(on.faults(), HasSubstr("fill: a grid of 1 x 65536 x 1"));
  launch<fill>(on.stream, {1, 1, 227 * 1024 + 1}, x, 1);
  EXPECT_THAT(on.faults(), HasSubstr("fill: 232449 bytes of shared memory"));
  launch<fill>(nullptr, {1, 1}, x, 1);
  EXPECT_THAT(on.faults(), HasSubstr("the default stream is used"));
  launch<fill>(on.stream, {1, 1024, 227 * 1024}, x, 1);
  EXPECT_EQ(on.faults(), "");
}

}  // namespace
}  // namespace lorashard::emulator
