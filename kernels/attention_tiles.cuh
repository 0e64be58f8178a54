// What the cuda forward and backward attention share: which block works on what, and tiles of one head on their way
// between device memory and shared memory. The products of tiles are in attention_products.cuh.
//
// A block holds `rows` queries (or keys, for their gradients) in shared memory and walks over tiles of `inner` keys (or
// queries). A tile's rows have kSize values, the head size rounded up to one that a kernel is made for, and zeros
// behind the head's own; rows past the end of the sequence are zeros too, so products need no special cases.
#pragma once

#include <algorithm>
#include <bit>
#include <numbers>

#include "kernels/attention.hpp"
#include "kernels/launch.hpp"
#include "kernels/tensor_core.cuh"

namespace lorashard::kernels {

// What a block can have on the smallest GPU (sm_86): rows of kLargestCudaHead fp32 values are what fits.
inline constexpr std::size_t kBlockBytes = 99 * 1024;

// An AttentionShape as kernels read it, with D^-1/2, and that times log2(e) for exponentials to base 2.
struct HeadShape {
  int length, heads, kv_heads, size, group, skew;
  int window;  // 2^30 where there is none: no mask for those who need none
  float scale, scale_log2;

  explicit HeadShape(const AttentionShape& s)
      : length(static_cast<int>(s.length)),
        heads(static_cast<int>(s.heads)),
        kv_heads(static_cast<int>(s.kv_heads)),
        size(static_cast<int>(s.head_size)),
        group(static_cast<int>(s.group_size())),
        skew(static_cast<int>(s.skew)),
        window(static_cast<int>(s.window == 0 ? kMostCudaRows : std::min(s.window, kMostCudaRows))),
        scale(static_cast<float>(1.0 / std::sqrt(static_cast<double>(s.head_size)))),
        scale_log2(static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(s.head_size)))) {}

  __device__ int kv_head(int head) const { return (skew + head) / group; }
  // Heads [first_head(g), first_head(g + 1)) meet key/value head g.
  __device__ int first_head(int kv_head) const {  // std::clamp would put its operands into memory
    const int head = kv_head * group - skew;
    return head < 0 ? 0 : head < heads ? head : heads;
  }
  // That a query sees, or less than 0.
  __device__ int oldest_key(int query) const { return query - window + 1; }
  __device__ bool sees(int query, int key) const {  // also false where key > query
    return static_cast<unsigned>(query - key) < static_cast<unsigned>(window);
  }
};

// An operand: rows (b, t), columns (head, d). `wide`: every head's row starts at a multiple of 16 bytes and has a
// multiple of 16 bytes, so it is moved 16 bytes at a time.
template <class T>
struct HeadRows {
  T* data;
  Index stride;
  bool wide;
};
template <class T, class Byte>
auto head_rows(const BasicMatrix<Byte>& m, Index head_size) {
  auto* data = m.template row<T>(0);
  const bool wide = reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && m.stride * sizeof(T) % 16 == 0 &&
                    head_size * sizeof(T) % 16 == 0;
  return HeadRows<std::remove_pointer_t<decltype(data)>>{data, m.stride, wide};
}

// A block's share of the work. Blocks of one head lie side by side, so that those at work at the same time read the
// same keys and find them in the second-level cache; within a head those with the most tiles to walk come first.
struct BlockPlace {
  int batch, head, tile;
};
template <bool kLastFirst>
__device__ inline BlockPlace block_place(int block, int heads, int tiles) {
  const int turn = block % tiles;
  return {block / tiles / heads, block / tiles % heads, kLastFirst ? tiles - 1 - turn : turn};
}

// Rows [first, first + count) of a sequence, of one head.
struct TileRows {
  int row;  // of the operand
  int col;
  int count;  // that exist
};
__device__ inline TileRows tile_rows(const HeadShape& s, int batch, int head, int first, int rows) {
  const int left = s.length - first;
  return {batch * s.length + first, head * s.size, left < rows ? left : rows};
}

// One thread's share of tiles that lie one after another in a sequence: 16 bytes of every kStep-th row. A tile arrives
// filled up with zeros to kSize columns, and is there after wait_copies() and a barrier.
template <class Tile>
class TileReader {
 public:
  using T = typename Tile::Element;

  // The first tile begins at `place`.
  __device__ TileReader(const HeadRows<const T>& from, const TileRows& place, int size)
      : source_(from.data + (place.row + row()) * from.stride + place.col + col()),
        step_(kStep * from.stride),
        cols_(size - col()),
        wide_(from.wide) {}

  // to (kRows, kPitch) = the next kRows rows, of which `left` exist. The warp is together again behind it, as products
  // must have it.
  template <int kRows>
  __device__ __forceinline__ void next(T* to, int left) {
    static_assert(kRows % kStep == 0);
    if (col() < Tile::kSize) copy<kRows>(to, left);
    __syncwarp();
  }

 private:
  static constexpr int kChunk = 16 / sizeof(T);
  static constexpr int kAcross = std::bit_ceil(static_cast<unsigned>(Tile::kSize / kChunk));
  static constexpr int kStep = Tile::kThreads / kAcross;
  static_assert(kAcross <= Tile::kThreads);
  __device__ static int row() { return static_cast<int>(threadIdx.x) / kAcross; }
  __device__ static int col() { return static_cast<int>(threadIdx.x) % kAcross * kChunk; }

  // Both loops have a constant count: the wide one is nothing but copies.
  template <int kRows>
  __device__ __forceinline__ void copy(T* to, int left) {
    const int rows = cols_ > 0 ? left - row() : 0;
    T* target = to + row() * Tile::kPitch + col();
    if (wide_) {
#pragma unroll
      for (int i = 0; i < kRows; i += kStep) {
        copy_later(target + i * Tile::kPitch, source_, i < rows);
        source_ += step_;
      }
    } else {
#pragma unroll 1
      for (int i = 0; i < kRows; i += kStep) {
#pragma unroll
        for (int d = 0; d < kChunk; ++d) target[i * Tile::kPitch + d] = i < rows && d < cols_ ? source_[d] : T{};
        source_ += step_;
      }
    }
  }

  const T* source_;
  Index step_;
  int cols_;  // that exist, from source_'s on
  bool wide_;
};

// A single tile.
template <class Tile, int kRows>
__device__ __forceinline__ void load_tile(const HeadRows<const typename Tile::Element>& from, const TileRows& place,
                                          int size, typename Tile::Element* to) {
  TileReader<Tile>(from, place, size).template next<kRows>(to, place.count);
}

// The rows at `place`, columns [first_col, first_col + kCols), = the first kCols columns of `from`, which the warp
// itself has written and which no other warp touches: rows [first, first + count) of the tile.
template <class Tile, int kCols, class T>
__device__ __forceinline__ void store_rows(const T* from, int first, int count, int first_col, const HeadRows<T>& to,
                                           const TileRows& place, int size) {
  constexpr int kChunk = 16 / sizeof(T), kChunks = kCols / kChunk;
  T* corner = to.data + place.row * to.stride + place.col + first_col;
  for (int i = warp_lane(); i < count * kChunks; i += 32) {
    const int row = first + i / kChunks, col = i % kChunks * kChunk;
    if (row >= place.count || first_col + col >= size) continue;
    const T* source = from + row * Tile::kPitch + col;
    T* target = corner + row * to.stride + col;
    if (to.wide) {
      *reinterpret_cast<uint4*>(target) = *reinterpret_cast<const uint4*>(source);
    } else {
      for (int d = 0; d < kChunk && first_col + col + d < size; ++d) target[d] = source[d];
    }
  }
}

// body(std::integral_constant<int, kSize>) for the smallest kSize that a kernel is made for and that holds `size`.
template <int... kSizes, class Body>
void with_padded_size(Index size, const Body& body) {
  bool done = false;
  ((done || size > kSizes || (body(std::integral_constant<int, kSizes>{}), done = true)), ...);
}

inline dim3 grid_of(Index blocks) { return dim3(static_cast<unsigned>(blocks)); }  // below 2^31: kMostCudaRows

}  // namespace lorashard::kernels
