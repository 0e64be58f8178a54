// Small dense tiles in cache and their products, for the host's attention. A tile is a contiguous row-major block of
// floats; its rows are zero-padded to whole vectors, so the product has no remainders.
#pragma once

#include <cstring>
#include <vector>

#include "kernels/host_loops.hpp"

namespace lorashard::kernels {

// As wide as a register, in the compilers' vector extension: a loop over plain floats is vectorised too, but only this
// keeps a block of sums in registers over the whole depth of a product.
#ifdef __AVX512F__
inline constexpr Index kLanes = 16;
#else
inline constexpr Index kLanes = 8;
#endif
using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));

inline Lanes load_lanes(const float* from) {
  Lanes v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
inline void store_lanes(float* to, Lanes v) { std::memcpy(to, &v, sizeof v); }

// A block of sums: 4 rows by 2 vectors, 8 registers, as many as hide the latency of a fused multiply-add (4 cycles, two
// started each cycle).
inline constexpr Index kBlockRows = 4;
inline constexpr Index kBlockCols = 2 * kLanes;
inline Index padded(Index cols) { return divide_up(cols, kBlockCols) * kBlockCols; }

// The left operand: element (i, p) at data[i * row + p * col], so a transposed tile costs nothing.
struct Left {
  const float* data;
  Index row, col;
};
// The right operand and the result: rows of whole blocks, `row` elements apart.
struct Right {
  const float* data;
  Index row;
};
struct Result {
  float* data;
  Index row;
};

template <bool kAccumulate>
inline void block_product(const Left& a, const Right& b, Index depth, const Result& c) {
  Lanes sums[kBlockRows][2];
#pragma GCC unroll 4
  for (Index i = 0; i < kBlockRows; ++i) {
    sums[i][0] = kAccumulate ? load_lanes(c.data + i * c.row) : Lanes{};
    sums[i][1] = kAccumulate ? load_lanes(c.data + i * c.row + kLanes) : Lanes{};
  }
  for (Index p = 0; p < depth; ++p) {
    const Lanes b0 = load_lanes(b.data + p * b.row), b1 = load_lanes(b.data + p * b.row + kLanes);
#pragma GCC unroll 4
    for (Index i = 0; i < kBlockRows; ++i) {
      const float x = a.data[i * a.row + p * a.col];
      sums[i][0] += x * b0;
      sums[i][1] += x * b1;
    }
  }
#pragma GCC unroll 4
  for (Index i = 0; i < kBlockRows; ++i) {
    store_lanes(c.data + i * c.row, sums[i][0]);
    store_lanes(c.data + i * c.row + kLanes, sums[i][1]);
  }
}

// C (rows, cols) = A (rows, depth) B (depth, cols), or += it. rows is a multiple of kBlockRows, cols of kBlockCols.
template <bool kAccumulate>
void tile_product(const Left& a, const Right& b, const Result& c, Index rows, Index cols, Index depth) {
  for (Index j = 0; j < cols; j += kBlockCols) {
    for (Index i = 0; i < rows; i += kBlockRows) {
      block_product<kAccumulate>({a.data + i * a.row, a.row, a.col}, {b.data + j, b.row}, depth,
                                 {c.data + i * c.row + j, c.row});
    }
  }
}

// Scratch of one thread, kept between calls and handed out in cache lines, zeroed.
class Scratch {
 public:
  explicit Scratch(Index floats) {
    static thread_local std::vector<float> room;
    room.assign(floats + kLine, 0.0f);
    const auto address = reinterpret_cast<std::uintptr_t>(room.data());
    next_ = room.data() + (kLine - address / sizeof(float) % kLine) % kLine;
  }
  float* take(Index floats) { return std::exchange(next_, next_ + divide_up(floats, kLine) * kLine); }

 private:
  static constexpr Index kLine = 16;
  float* next_;
};

}  // namespace lorashard::kernels
