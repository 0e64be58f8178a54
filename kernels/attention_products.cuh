// Products of tiles in shared memory, twice with one interface: on tensor cores for bf16, in plain fp32 arithmetic for
// f32. A kernel is written once, over a `Tile`:
//
//   Tile::Scores s;       this thread's elements of (rows, inner) scores; zero at first
//   Tile::Output o;       its elements of (rows, columns) sums
//   Tile::scores(a, b, s)               s += a b^T    a (rows, size), b (inner, size)
//   Tile::accumulate(s, b, o, room)     o += s b      b (inner, columns)
//   s.each(f)             f(i, col, x) for every element x of the thread: row row_of(i), i < kThreadRows; column col
//   s.each(f, t)          f(i, col, x, y) with the same element y of t
//   Tile::over_row(x, f)  x joined by f over the threads that share rows, the same in each
//
// All loops unroll, so the elements are registers.
#pragma once

#include "kernels/tensor_core.cuh"

namespace lorashard::kernels {

// kWarps warps of 16 kRowTiles rows each. Two row tiles halve what is read from shared memory, which at one row tile
// takes as long as the products themselves (a 16 x 8 x 16 product: 2 clocks of an A100's tensor cores; its b: 256
// bytes, 2 clocks of its shared memory).
template <int kSize_, int kRowTiles, int kInner_, int kWarps = 4, int kColumns_ = kSize_>
struct TensorTile {
  using Element = bf16;
  static constexpr int kSize = kSize_, kInner = kInner_, kColumns = kColumns_, kThreads = 32 * kWarps;
  static constexpr int kWarpRows = 16 * kRowTiles, kRows = kWarps * kWarpRows, kThreadRows = 2 * kRowTiles;
  static constexpr int kPitch = kSize + 8;  // the 8 rows that load_matrices reads together lie in all banks once
  static constexpr std::size_t kRoomBytes = 0;
  static_assert(kSize % 16 == 0 && kInner % 16 == 0 && kColumns % 16 == 0);

  template <int kCols>
  struct Block {
    float c[kRowTiles][kCols / 8][4] = {};
    template <class F, class... Blocks>
    __device__ __forceinline__ void each(const F& f, Blocks&... others) {
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int n = 0; n < kCols / 8; ++n) {
#pragma unroll
          for (int e = 0; e < 4; ++e)
            f(2 * m + e / 2, 8 * n + warp_lane() % 4 * 2 + e % 2, c[m][n][e], others.c[m][n][e]...);
        }
      }
    }
  };
  using Scores = Block<kInner>;
  using Output = Block<kColumns>;

  __device__ static int first_row() { return static_cast<int>(threadIdx.x / 32) * kWarpRows; }
  __device__ static int row_of(int i) { return first_row() + 8 * i + warp_lane() / 4; }
  template <class F>
  __device__ static float over_row(float x, const F& f) {
    x = f(x, __shfl_xor_sync(kWarp, x, 1));
    return f(x, __shfl_xor_sync(kWarp, x, 2));
  }
  __device__ static bool leads_row() { return warp_lane() % 4 == 0; }  // one thread of those that share rows
  __device__ static float exp2(float x) { return fast_exp2(x); }

  __device__ __forceinline__ static void scores(const bf16* a, const bf16* b, Scores& s) {
    const int lane = warp_lane();
    const bf16* a_row = a + (first_row() + lane % 16) * kPitch + lane / 16 * 8;
    const bf16* b_row = b + (lane / 16 * 8 + lane % 8) * kPitch + lane / 8 % 2 * 8;
#pragma unroll
    for (int d = 0; d < kSize; d += 16) {
      unsigned rows[kRowTiles][4];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) load_matrices<false>(rows[m], a_row + 16 * m * kPitch + d);
#pragma unroll
      for (int n = 0; n < kInner; n += 16) {
        unsigned cols[4];
        load_matrices<false>(cols, b_row + n * kPitch + d);
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          multiply_add(s.c[m][n / 8], rows[m], cols[0], cols[1]);
          multiply_add(s.c[m][n / 8 + 1], rows[m], cols[2], cols[3]);
        }
      }
    }
  }

  // What a lane holds of two neighbouring tiles of scores is, rounded to bf16, what it must hold of a.
  __device__ __forceinline__ static void accumulate(const Scores& s, const bf16* b, Output& o, float* /*room*/) {
    const int lane = warp_lane();
    const bf16* b_row = b + lane % 16 * kPitch + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < kInner; k += 16) {
      unsigned rows[kRowTiles][4];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float* pair = s.c[m][k / 8 + i / 2] + i % 2 * 2;
          rows[m][i] = packed_bf16(pair[0], pair[1]);
        }
      }
#pragma unroll
      for (int n = 0; n < kColumns; n += 16) {
        unsigned cols[4];
        load_matrices<true>(cols, b_row + k * kPitch + n);
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          multiply_add(o.c[m][n / 8], rows[m], cols[0], cols[1]);
          multiply_add(o.c[m][n / 8 + 1], rows[m], cols[2], cols[3]);
        }
      }
    }
  }

  // The warp's rows of `to`, its first columns, = o with row i times factor(i).
  template <class F>
  __device__ __forceinline__ static void put(Output& o, bf16* to, const F& factor) {
    unsigned* pairs = reinterpret_cast<unsigned*>(to);
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const float* c = o.c[m][n] + 2 * h;
          pairs[(row_of(2 * m + h) * kPitch + 8 * n) / 2 + warp_lane() % 4] =
              packed_bf16(c[0] * factor(2 * m + h), c[1] * factor(2 * m + h));
        }
      }
    }
  }
};

// 16 threads across, each with 4 neighbouring rows and every 16th column.
template <int kSize_, int kRows_, int kInner_>
struct PlainTile {
  using Element = float;
  static constexpr int kSize = kSize_, kRows = kRows_, kInner = kInner_, kColumns = kSize_;
  static constexpr int kThreads = 4 * kRows, kWarpRows = 8, kThreadRows = 4;
  static constexpr int kPitch = kSize + 4;  // 8 rows of 16 bytes lie in all banks once
  static constexpr int kRoomPitch = kInner + 4;
  static constexpr std::size_t kRoomBytes = kRows * kRoomPitch * sizeof(float);  // (rows, inner) scores
  static_assert(kSize % 16 == 0 && kInner % 16 == 0 && kThreads % 32 == 0);

  template <int kCols>
  struct Block {
    float c[4][kCols / 16] = {};
    template <class F, class... Blocks>
    __device__ __forceinline__ void each(const F& f, Blocks&... others) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < kCols / 16; ++j) f(i, across() + 16 * j, c[i][j], others.c[i][j]...);
      }
    }
  };
  using Scores = Block<kInner>;
  using Output = Block<kColumns>;

  __device__ static int across() { return static_cast<int>(threadIdx.x % 16); }
  __device__ static int first_row() { return static_cast<int>(threadIdx.x / 32) * kWarpRows; }
  __device__ static int row_of(int i) { return static_cast<int>(threadIdx.x / 16) * 4 + i; }
  template <class F>
  __device__ static float over_row(float x, const F& f) {
#pragma unroll
    for (int lanes = 1; lanes < 16; lanes *= 2) x = f(x, __shfl_xor_sync(kWarp, x, lanes));
    return x;
  }
  __device__ static bool leads_row() { return across() == 0; }
  __device__ static float exp2(float x) { return exp2f(x); }

  __device__ __forceinline__ static void scores(const float* a, const float* b, Scores& s) {
#pragma unroll 4
    for (int d = 0; d < kSize; d += 4) {
      float4 rows[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) rows[i] = *reinterpret_cast<const float4*>(a + row_of(i) * kPitch + d);
#pragma unroll
      for (int j = 0; j < kInner / 16; ++j) {
        const float4 col = *reinterpret_cast<const float4*>(b + (across() + 16 * j) * kPitch + d);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& sum = s.c[i][j];
          sum = fmaf(rows[i].x, col.x, sum);
          sum = fmaf(rows[i].y, col.y, sum);
          sum = fmaf(rows[i].z, col.z, sum);
          sum = fmaf(rows[i].w, col.w, sum);
        }
      }
    }
  }

  // A row's scores are spread over half a warp: they go through shared memory.
  __device__ __forceinline__ static void accumulate(Scores& s, const float* b, Output& o, float* room) {
    s.each([&](int i, int col, float& x) { room[row_of(i) * kRoomPitch + col] = x; });
    __syncwarp();
#pragma unroll 1
    for (int k = 0; k < kInner; k += 4) {
      float weights[4][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float4 w = *reinterpret_cast<const float4*>(room + row_of(i) * kRoomPitch + k);
        weights[i][0] = w.x, weights[i][1] = w.y, weights[i][2] = w.z, weights[i][3] = w.w;
      }
#pragma unroll
      for (int l = 0; l < 4; ++l) {
#pragma unroll
        for (int j = 0; j < kColumns / 16; ++j) {
          const float value = b[(k + l) * kPitch + across() + 16 * j];
#pragma unroll
          for (int i = 0; i < 4; ++i) o.c[i][j] = fmaf(weights[i][l], value, o.c[i][j]);
        }
      }
    }
    __syncwarp();  // before the next scores
  }

  template <class F>
  __device__ __forceinline__ static void put(Output& o, float* to, const F& factor) {
    o.each([&](int i, int col, float& x) { to[row_of(i) * kPitch + col] = x * factor(i); });
  }
};

}  // namespace lorashard::kernels
