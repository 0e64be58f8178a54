// The CUDA language and runtime on the emulator mean what they mean on a device.
#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <vector>

#include "kernels/launch.hpp"
#include "tests/emulator/planted.hpp"

namespace lorashard::emulator {
namespace {

__global__ void write_indices(int* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  out[block * threads + thread] = static_cast<int>(1000 * block + thread);
}

TEST(Language, IndicesOfThreeDimensions) {
  Planted on;
  int* out = on.make<int>(6 * 24);
  kernels::launch<write_indices>(on.stream, {dim3(3, 2, 1), dim3(4, 3, 2)}, out);
  const std::vector<int> got = on.fetch(out, 6 * 24);
  for (int i = 0; i < 6 * 24; ++i) EXPECT_EQ(got[i], i / 24 * 1000 + i % 24) << i;
  EXPECT_EQ(on.faults(), "");
}

// Sums of one block's values: shuffles within a warp, shared memory between warps.
__global__ void sum_blocks(const float* x, float* sums) {
  float* parts = kernels::shared_memory<float>();
  float value = x[blockIdx.x * blockDim.x + threadIdx.x];
  for (unsigned lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0;
    for (unsigned i = 0; i < blockDim.x / 32; ++i) sum += parts[i];
    sums[blockIdx.x] = sum;
  }
}

TEST(Language, SumsAreExact) {
  Planted on;
  std::vector<float> x(4 * 256);
  std::iota(x.begin(), x.end(), 0.0f);
  float* device_x = on.give(x);
  float* sums = on.make<float>(4);
  kernels::launch<sum_blocks>(on.stream, {4, 256, 8 * sizeof(float)}, device_x, sums);
  const std::vector<float> got = on.fetch(sums, 4);
  for (int b = 0; b < 4; ++b) EXPECT_EQ(got[b], 256 * (b * 256) + 255 * 256 / 2) << b;
  EXPECT_EQ(on.faults(), "");
}

__global__ void warp_operations(unsigned* out) {
  const int lane = threadIdx.x;
  out[0 * 32 + lane] = __ballot_sync(0xffffffffu, lane % 3 == 0);
  out[1 * 32 + lane] = __shfl_sync(0xffffffffu, lane, 5);
  out[2 * 32 + lane] = __shfl_sync(0xffffffffu, lane, 3, 8);
  out[3 * 32 + lane] = __shfl_down_sync(0xffffffffu, lane, 4u);
  out[4 * 32 + lane] = __shfl_xor_sync(0xffffffffu, lane, 9);
  out[5 * 32 + lane] = __any_sync(0xffffffffu, lane == 31);
  // Halves of a warp on their own.
  out[6 * 32 + lane] = lane < 16 ? __ballot_sync(0x0000ffffu, 1) : __ballot_sync(0xffff0000u, lane % 2);
}

TEST(Language, WarpOperations) {
  Planted on;
  unsigned* out = on.make<unsigned>(7 * 32);
  kernels::launch<warp_operations>(on.stream, {1, 32}, out);
  const std::vector<unsigned> got = on.fetch(out, 7 * 32);
  unsigned thirds = 0;
  for (int i = 0; i < 32; i += 3) thirds |= 1u << i;
  for (unsigned lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(got[lane], thirds);
    EXPECT_EQ(got[32 + lane], 5u);
    EXPECT_EQ(got[64 + lane], lane / 8 * 8 + 3);
    EXPECT_EQ(got[96 + lane], lane < 28 ? lane + 4 : lane);
    EXPECT_EQ(got[128 + lane], lane ^ 9u);
    EXPECT_EQ(got[160 + lane], 1u);
    EXPECT_EQ(got[192 + lane], lane < 16 ? 0x0000ffffu : 0xaaaa0000u);
  }
  EXPECT_EQ(on.faults(), "");
}

__global__ void part_of_a_warp(int* out) {
  int value = threadIdx.x;
  value = __shfl_down_sync(0xffffffffu, value, 1u);  // lanes that the block does not have are not waited for
  __syncwarp();
  out[threadIdx.x] = value;
}

TEST(Language, BlockThatEndsWithinAWarp) {
  Planted on;
  int* out = on.make<int>(48);
  kernels::launch<part_of_a_warp>(on.stream, {1, 48}, out);
  const std::vector<int> got = on.fetch(out, 48);
  for (int i = 0; i < 47; ++i) {
    if (i != 31) {
      EXPECT_EQ(got[i], i + 1) << i;
    }
  }
  EXPECT_EQ(on.faults(), "");
}

__global__ void fill(float* x, int n, float value) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) x[i] = value;
}
__global__ void add(const float* x, float* y, int n) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] += x[i];
}

TEST(Runtime, EventsOrderStreams) {
  Planted on;
  cudaStream_t other;
  cudaEvent_t event;
  cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  const int n = 1000;
  float* x = on.make<float>(n);
  float* y = on.make<float>(n);
  kernels::launch<fill>(on.stream, {2, 64}, y, n, 0.0f);
  for (int i = 1; i <= 20; ++i) {
    kernels::launch<fill>(on.stream, {4, 64}, x, n, static_cast<float>(i));
    cudaEventRecord(event, on.stream);
    cudaStreamWaitEvent(other, event, 0);
    kernels::launch<add>(other, {4, 64}, x, y, n);
    cudaEventRecord(event, other);
    cudaStreamWaitEvent(on.stream, event, 0);
  }
  EXPECT_EQ(on.fetch(y, n), std::vector<float>(n, 210.0f));
  cudaEventDestroy(event);
  cudaStreamDestroy(other);
  EXPECT_EQ(on.faults(), "");
}

TEST(Runtime, CopiesOfRows) {
  Planted on;
  const std::vector<int> source{1, 2, 3, 4, 5, 6};
  int* device = on.give(std::vector<int>(12, -1));
  cudaMemcpy2DAsync(device, 4 * sizeof(int), source.data(), 2 * sizeof(int), 2 * sizeof(int), 3, cudaMemcpyHostToDevice,
                    on.stream);
  EXPECT_EQ(on.fetch(device, 12), (std::vector<int>{1, 2, -1, -1, 3, 4, -1, -1, 5, 6, -1, -1}));
  std::vector<int> back(6);
  cudaMemcpy2DAsync(back.data(), 2 * sizeof(int), device, 4 * sizeof(int), 2 * sizeof(int), 3, cudaMemcpyDeviceToHost,
                    on.stream);
  EXPECT_EQ(back, source);
  EXPECT_EQ(on.faults(), "");
}

TEST(Runtime, MemoryThatIsRefused) {
  std::size_t free = 0, total = 0;
  ASSERT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  void* data = nullptr;
  Planted on;
  EXPECT_EQ(cudaMallocAsync(&data, free + 1, on.stream), cudaErrorMemoryAllocation);
  EXPECT_EQ(data, nullptr);
  EXPECT_EQ(cudaMallocAsync(&data, 1000, on.stream), cudaSuccess);
  std::size_t left = 0;
  cudaMemGetInfo(&left, &total);
  EXPECT_EQ(left, free - 1000);
  cudaFreeAsync(data, on.stream);
  cudaMemGetInfo(&left, &total);
  EXPECT_EQ(left, free);
}

TEST(Runtime, MemoryIsUsedAgainOnTheSameStream) {
  Planted on;
  void* first = nullptr;
  void* second = nullptr;
  cudaMallocAsync(&first, 5000, on.stream);
  cudaFreeAsync(first, on.stream);
  cudaMallocAsync(&second, 5000, on.stream);
  EXPECT_EQ(first, second);
  cudaFreeAsync(second, on.stream);
  EXPECT_EQ(on.faults(), "");
}

}  // namespace
}  // namespace lorashard::emulator
