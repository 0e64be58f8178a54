// What kernels/tensor_core.cuh says that its instructions do, and the products of tiles made of them, against plain
// loops. Small whole numbers: every sum is exact in any order.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/attention_products.cuh"
#include "tests/emulator/planted.hpp"

namespace lorashard::kernels {
namespace {

std::vector<bf16> whole_numbers(int count, unsigned seed) {
  std::vector<bf16> values(count);
  for (bf16& x : values) {
    seed = seed * 1664525u + 1013904223u;
    x = to_bf16(static_cast<float>(static_cast<int>(seed >> 28) - 8));
  }
  return values;
}

// c (16, 8) = 1 + a (16, 16) b (16, 8), with the fragments filled as the header describes them.
__global__ void product_kernel(const bf16* a, const bf16* b, float* c) {
  const int g = warp_lane() / 4, t = warp_lane() % 4;
  const auto pair = [](bf16 low, bf16 high) { return low.bits | static_cast<unsigned>(high.bits) << 16; };
  unsigned rows[4];
  for (int i = 0; i < 4; ++i) {
    const bf16* from = a + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8;
    rows[i] = pair(from[0], from[1]);
  }
  const bf16* from = b + 2 * t * 8 + g;
  float sums[4] = {1.0f, 1.0f, 1.0f, 1.0f};
  multiply_add(sums, rows, pair(from[0], from[8]), pair(from[64], from[72]));
  for (int e = 0; e < 4; ++e) c[(g + e / 2 * 8) * 8 + 2 * t + e % 2] = sums[e];
}

TEST(TensorCore, MultiplyAddIsAProductOfMatrices) {
  emulator::Planted planted;
  const auto a = whole_numbers(16 * 16, 1), b = whole_numbers(16 * 8, 2);
  float* c = planted.make<float>(16 * 8);
  const bf16 *a_there = planted.give(a), *b_there = planted.give(b);
  launch<product_kernel>(planted.stream, {1, 32}, a_there, b_there, c);
  const auto found = planted.fetch(c, 16 * 8);
  EXPECT_EQ(planted.faults(), "");
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      float sum = 1.0f;
      for (int k = 0; k < 16; ++k) sum += to_float(a[i * 16 + k]) * to_float(b[k * 8 + j]);
      EXPECT_EQ(found[i * 8 + j], sum) << i << ", " << j;
    }
  }
}

using Tile = TensorTile<32, 2, 16, 2>;  // 64 rows of 32, 16 inner rows

template <int kRows>
__device__ void load(const bf16* from, bf16* to) {
  for (int i = static_cast<int>(threadIdx.x); i < kRows * 4; i += Tile::kThreads) {
    copy_later(to + i / 4 * Tile::kPitch + i % 4 * 8, from + i * 8, true);
  }
}

// s (64, 16) = a (64, 32) b^T, b (16, 32), and o (64, 32) = s b.
__global__ void tile_kernel(const bf16* a, const bf16* b, float* s, float* o, bool waits) {
  bf16* a_tile = shared_memory<bf16>();
  bf16* b_tile = a_tile + Tile::kRows * Tile::kPitch;
  load<Tile::kRows>(a, a_tile);
  load<Tile::kInner>(b, b_tile);
  if (waits) wait_copies();
  __syncthreads();
  Tile::Scores scores;
  Tile::Output output;
  Tile::scores(a_tile, b_tile, scores);
  Tile::accumulate(scores, b_tile, output, nullptr);
  scores.each([&](int i, int col, float& x) { s[Tile::row_of(i) * Tile::kInner + col] = x; });
  output.each([&](int i, int col, float& x) { o[Tile::row_of(i) * Tile::kColumns + col] = x; });
  __syncthreads();
  wait_copies();
}

struct Products {
  std::vector<bf16> a = whole_numbers(64 * 32, 3), b = whole_numbers(16 * 32, 4);
  std::vector<float> s, o;

  explicit Products(bool waits) {
    emulator::Planted planted;
    for (bf16& x : a) x = to_bf16(to_float(x) / 8.0f);  // scores stay whole numbers of 1/8 below 256/8: exact in bf16
    for (std::size_t i = 0; i < b.size(); ++i) b[i] = to_bf16(i % 3 == 0 ? 1.0f : i % 3 == 1 ? -1.0f : 0.0f);
    float *s_there = planted.make<float>(64 * 16), *o_there = planted.make<float>(64 * 32);
    const bf16 *a_there = planted.give(a), *b_there = planted.give(b);
    launch<tile_kernel>(planted.stream, {1, Tile::kThreads, (64 + 16) * Tile::kPitch * sizeof(bf16)}, a_there, b_there,
                        s_there, o_there, waits);
    s = planted.fetch(s_there, 64 * 16);
    o = planted.fetch(o_there, 64 * 32);
    EXPECT_EQ(planted.faults(), "");
  }
};

TEST(TensorCore, ProductsOfTilesAreThoseOfMatrices) {
  const Products x(true);
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < 16; ++j) {
      float sum = 0.0f;
      for (int d = 0; d < 32; ++d) sum += to_float(x.a[i * 32 + d]) * to_float(x.b[j * 32 + d]);
      EXPECT_EQ(x.s[i * 16 + j], sum) << i << ", " << j;
    }
    for (int d = 0; d < 32; ++d) {
      float sum = 0.0f;
      for (int j = 0; j < 16; ++j) sum += to_float(to_bf16(x.s[i * 16 + j])) * to_float(x.b[j * 32 + d]);
      EXPECT_EQ(x.o[i * 32 + d], sum) << i << ", " << d;
    }
  }
}

// On a GPU a copy that no one waits for may have arrived all the same.
TEST(TensorCore, ACopyThatNoOneWaitsForIsNotThere) {
  const Products x(false);
  for (const float s : x.s) EXPECT_TRUE(std::isnan(s));
}

}  // namespace
}  // namespace lorashard::kernels
