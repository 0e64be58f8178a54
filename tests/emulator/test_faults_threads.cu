// Faults between the threads of a launch: races, and barriers that not all reach. Beside each the mended kernel.
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

// Each thread hands its value to its neighbour through shared memory.
template <bool kBarrier>
__global__ void rotate(int* y) {
  int* values = shared_memory<int>();
  values[threadIdx.x] = threadIdx.x;
  if (kBarrier) __syncthreads();
  y[threadIdx.x] = values[(threadIdx.x + blockDim.x - 1) % blockDim.x];
}

TEST(Race, WriteThenReadWithoutBarrier) {
  Planted on;
  int* y = on.make<int>(64);
  launch<rotate<false>>(on.stream, {1, 64, 64 * sizeof(int)}, y);
  EXPECT_THAT(on.faults(), AllOf(HasSubstr("rotate<false>: race: read of 4 bytes"), HasSubstr("thread (1,0,0)"),
                                 HasSubstr("thread number 0 of the block")));
  launch<rotate<true>>(on.stream, {1, 64, 64 * sizeof(int)}, y);
  EXPECT_EQ(on.faults(), "");
}

// A sum that is used twice: the second round overwrites what others may still read. Here all have read, and the one
// that overwrites did last of all, so a memory of the last reader alone would not see it.
template <bool kBarrier>
__global__ void sum_twice(int* y) {
  int* sum = shared_memory<int>();
  if (threadIdx.x == 0) *sum = 1;
  __syncthreads();
  const int before = threadIdx.x == 0 ? 0 : *sum;
  if (kBarrier) __syncthreads();
  if (threadIdx.x == blockDim.x - 2) *sum = 2;
  __syncthreads();
  y[threadIdx.x] = before + *sum;
}

TEST(Race, ReadThenWriteWithoutBarrier) {
  Planted on;
  int* y = on.make<int>(64);
  launch<sum_twice<false>>(on.stream, {1, 64, sizeof(int)}, y);
  EXPECT_THAT(on.faults(),
              AllOf(HasSubstr("sum_twice<false>: race: write of 4 bytes"), HasSubstr("threads of the block")));
  launch<sum_twice<true>>(on.stream, {1, 64, sizeof(int)}, y);
  EXPECT_EQ(on.faults(), "");
}

// Two warps, each with values of its own: __syncwarp is enough within one, and not between the two.
template <bool kWithinWarps>
__global__ void last_of_warp(int* y) {
  int* values = shared_memory<int>();
  values[threadIdx.x] = threadIdx.x;
  __syncwarp();
  const unsigned warp = threadIdx.x / 32;
  y[threadIdx.x] = values[(kWithinWarps ? warp : 0) * 32 + 31];
}

TEST(Race, WarpBarrierOrdersOneWarp) {
  Planted on;
  int* y = on.make<int>(64);
  launch<last_of_warp<false>>(on.stream, {1, 64, 64 * sizeof(int)}, y);
  EXPECT_THAT(on.faults(),
              AllOf(HasSubstr("last_of_warp<false>: race: read"), HasSubstr("thread number 31 of the block")));
  launch<last_of_warp<true>>(on.stream, {1, 64, 64 * sizeof(int)}, y);
  EXPECT_EQ(on.faults(), "");
}

// Lanes 0-15 and 16-31 meet on their own; lane 16 then reads what lane 15 or lane 31 wrote.
template <bool kSameHalf>
__global__ void halves(int* y) {
  int* values = shared_memory<int>();
  const unsigned lane = threadIdx.x;
  values[lane] = lane;
  __syncwarp(lane < 16 ? 0x0000ffffu : 0xffff0000u);
  y[lane] = lane < 16 ? 0 : values[kSameHalf ? 31 : 15];
}

TEST(Race, MaskOrdersItsLanesAlone) {
  Planted on;
  int* y = on.make<int>(32);
  launch<halves<false>>(on.stream, {1, 32, 32 * sizeof(int)}, y);
  EXPECT_THAT(on.faults(), AllOf(HasSubstr("halves<false>: race: read"), HasSubstr("thread number 15 of the block")));
  launch<halves<true>>(on.stream, {1, 32, 32 * sizeof(int)}, y);
  EXPECT_EQ(on.faults(), "");
}

// A shuffle makes lanes meet and yet orders no memory.
template <bool kBarrier>
__global__ void after_shuffle(int* y) {
  int* values = shared_memory<int>();
  values[threadIdx.x] = threadIdx.x;
  const int other = __shfl_xor_sync(0xffffffffu, static_cast<int>(threadIdx.x), 1);
  if (kBarrier) __syncwarp();
  y[threadIdx.x] = values[other];
}

TEST(Race, ShuffleOrdersNoMemory) {
  Planted on;
  int* y = on.make<int>(32);
  launch<after_shuffle<false>>(on.stream, {1, 32, 32 * sizeof(int)}, y);
  EXPECT_THAT(on.faults(), HasSubstr("after_shuffle<false>: race: read"));
  launch<after_shuffle<true>>(on.stream, {1, 32, 32 * sizeof(int)}, y);
  EXPECT_EQ(on.faults(), "");
}

// Blocks whose parts overlap by one element, or do not.
__global__ void overlap(int* y, int step) { y[blockIdx.x * step + threadIdx.x] = threadIdx.x; }

TEST(Race, BetweenBlocks) {
  Planted on;
  int* y = on.make<int>(128);
  launch<overlap>(on.stream, {2, 64}, y, 63);
  EXPECT_THAT(on.faults(), AllOf(HasSubstr("overlap: race: write of 4 bytes"),
                                 HasSubstr("block (1,0,0) thread (0,0,0)"), HasSubstr("another block")));
  launch<overlap>(on.stream, {2, 64}, y, 64);
  EXPECT_EQ(on.faults(), "");
}

// All read an element that one block later writes.
__global__ void read_all_write_one(int* x, int* y, int writer) {
  y[blockIdx.x * blockDim.x + threadIdx.x] = x[0];
  __syncthreads();
  if (static_cast<int>(blockIdx.x) == writer && threadIdx.x == 0) x[0] = 2;
}

TEST(Race, ReadersInOtherBlocks) {
  Planted on;
  int* x = on.give(std::vector<int>{1});
  int* y = on.make<int>(3 * 32);
  launch<read_all_write_one>(on.stream, {3, 32}, x, y, 2);
  EXPECT_THAT(on.faults(), AllOf(HasSubstr("race: write"), HasSubstr("another block")));
  launch<read_all_write_one>(on.stream, {1, 32}, x, y, 0);
  launch<read_all_write_one>(on.stream, {3, 32}, x, y, -1);
  EXPECT_EQ(on.faults(), "");
}

// Neighbouring elements of two bytes belong to different threads: no race.
__global__ void small_elements(unsigned short* y) { y[threadIdx.x] = static_cast<unsigned short>(threadIdx.x); }
__global__ void bytes(unsigned char* y) { y[threadIdx.x] = static_cast<unsigned char>(threadIdx.x); }

TEST(Race, NeighboursAreNotOne) {
  Planted on;
  launch<small_elements>(on.stream, {1, 64}, on.make<unsigned short>(64));
  launch<bytes>(on.stream, {1, 64}, on.make<unsigned char>(64));
  EXPECT_EQ(on.faults(), "");
}

template <bool kMended>
__global__ void one_leaves(int* y) {
  if (!kMended && threadIdx.x == 5) return;
  __syncthreads();
  if (threadIdx.x != 5) y[threadIdx.x] = 1;
}

TEST(Barrier, NotReachedByAThreadThatEnded) {
  Planted on;
  int* y = on.make<int>(64);
  launch<one_leaves<false>>(on.stream, {1, 64}, y);
  EXPECT_THAT(on.faults(),
              HasSubstr("one_leaves<false>: barrier not reached by all: 63 of 64 threads (63 at the barrier, 0 in "
                        "a warp operation, 1 ended)"));
  launch<one_leaves<true>>(on.stream, {1, 64}, y);
  EXPECT_EQ(on.faults(), "");
}

template <bool kMended>
__global__ void crossed(int* y) {
  if (kMended || threadIdx.x < 32) {
    __syncthreads();
    y[threadIdx.x] = 1;
  } else {
    y[threadIdx.x] = __any_sync(0xffffffffu, 1);
    if (threadIdx.x == 40) __any_sync(0xffffffffu, 1);
    __syncthreads();
  }
}

TEST(Barrier, AWarpOperationThatNeverEnds) {
  Planted on;
  int* y = on.make<int>(64);
  launch<crossed<false>>(on.stream, {1, 64}, y);
  EXPECT_THAT(on.faults(), HasSubstr("63 of 64 threads (63 at the barrier, 1 in a warp operation, 0 ended)"));
  launch<crossed<true>>(on.stream, {1, 64}, y);
  EXPECT_EQ(on.faults(), "");
}

template <bool kMended>
__global__ void lanes_leave(int* y, int n) {
  if (!kMended && static_cast<int>(threadIdx.x) >= n) return;
  const int sum = __popc(__ballot_sync(0xffffffffu, static_cast<int>(threadIdx.x) < n));
  if (static_cast<int>(threadIdx.x) < n) y[threadIdx.x] = sum;
}

TEST(Barrier, LanesThatLeftAWarpOperation) {
  Planted on;
  int* y = on.make<int>(20);
  launch<lanes_leave<false>>(on.stream, {1, 32}, y, 20);
  EXPECT_THAT(on.faults(), AllOf(HasSubstr("lanes_leave<false>: warp operation not reached by all its lanes"),
                                 HasSubstr("20 in a warp operation, 12 ended")));
  launch<lanes_leave<true>>(on.stream, {1, 32}, y, 20);
  EXPECT_EQ(on.fetch(y, 20), std::vector<int>(20, 20));
  EXPECT_EQ(on.faults(), "");
}

__global__ void left_out(int* y) { y[threadIdx.x] = __ballot_sync(0x0000ffffu, 1); }

TEST(Barrier, LaneOutsideItsMask) {
  Planted on;
  launch<left_out>(on.stream, {1, 32}, on.make<int>(32));
  EXPECT_THAT(on.faults(),
              AllOf(HasSubstr("left_out: "), HasSubstr("thread (16,0,0)"), HasSubstr("whose mask leaves it out")));
}

}  // namespace
}  // namespace lorashard::emulator
