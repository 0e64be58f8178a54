// What the host's forward and backward attention share: tiles of one head, and which of their pairs exist.
//
// Scores are kept transposed, (keys, queries): then the softmax of a tile runs over its rows with one query per vector
// lane, keys and values are multiplied as they lie, and only the queries are transposed, once a tile. Work is cut into
// whole tiles; a tile past the end of the sequence is filled up with zeros, which the causal mask keeps from the rows
// that exist.
#pragma once

#include <cmath>
#include <limits>

#include "kernels/attention.hpp"
#include "kernels/host_tiles.hpp"

namespace lorashard::kernels {

inline constexpr Index kTile = 64;  // queries, and keys, a tile

// Where a tile's rows lie: rows (batch, token) of a matrix, columns of one head.
struct TilePlace {
  Index row, col, count;  // count: rows that exist, at most kTile
};
inline TilePlace place(const AttentionShape& s, Index batch, Index tile, Index head) {
  return {batch * s.length + tile * kTile, head * s.head_size, std::min(kTile, s.length - tile * kTile)};
}

// tile (kTile, stride) = scale * the rows at p, zero beyond them.
inline void load_tile(const ConstMatrix& m, const TilePlace& p, Index size, float scale, float* tile, Index stride) {
  for (Index i = 0; i < p.count; ++i) {
    float* to = tile + i * stride;
    const float* from = read(m, p.row + i, p.col, size, to);
#pragma omp simd
    for (Index d = 0; d < size; ++d) to[d] = scale * from[d];
  }
  for (Index i = p.count; i < kTile; ++i) std::fill_n(tile + i * stride, size, 0.0f);
}

// The rows at p = scale[i] * tile.
inline void store_tile(const Matrix& m, const TilePlace& p, Index size, const float* scale, const float* tile,
                       Index stride) {
  for (Index i = 0; i < p.count; ++i) {
    const float* from = tile + i * stride;
    float room[kTile];
    for (Index first = 0; first < size; first += kTile) {
      const Index count = std::min(kTile, size - first);
      float* to = target(m, p.row + i, p.col + first, room);
#pragma omp simd
      for (Index d = 0; d < count; ++d) to[d] = scale[i] * from[first + d];
      write(m, p.row + i, p.col + first, count, to);
    }
  }
}

// to (size, kTile) = transpose of from (kTile, stride).
inline void transpose_tile(const float* from, Index stride, Index size, float* to) {
  for (Index d = 0; d < size; ++d) {
    for (Index i = 0; i < kTile; ++i) to[d * kTile + i] = from[i * stride + d];
  }
}

// The first tile of keys that a tile of queries sees, by its first query.
inline Index first_key_tile(const AttentionShape& s, Index tile) {
  return std::max<Index>(0, tile * kTile - s.span() + 1) / kTile;
}

// Which (key, query) pairs of a tile exist: all; on the diagonal those with key <= query; and at the far edge of a
// window those that are near enough. On the diagonal, products and exponentials leave out what lies below it, in strips
// of as many keys as a product's block is wide; at the far edge, of which a query has at most one whole tile's worth,
// they leave out nothing.
class Visible {
 public:
  // `distance`: from the first key to the first query, a multiple of kTile.
  Visible(const AttentionShape& s, Index distance)
      : diagonal_(distance == 0), strip_(diagonal_ ? kBlockCols : kTile), reach_(s.span() - distance) {}

  // Queries before this one do not meet the key's strip: their scores are neither written nor read.
  Index first_query(Index key) const { return key / strip_ * strip_; }

  // Of the scores that are written, those of unseen keys become -infinity.
  void mask(float* scores) const {
    constexpr float kUnseen = -std::numeric_limits<float>::infinity();
    for (Index key = 1; diagonal_ && key < kTile; ++key) {
      std::fill(scores + key * kTile + first_query(key), scores + key * kTile + key, kUnseen);
    }
    for (Index key = 0; key + reach_ < kTile; ++key) {  // whose last query is key + reach_ - 1, if any
      std::fill(scores + key * kTile + std::max<Index>(0, key + reach_), scores + (key + 1) * kTile, kUnseen);
    }
  }

  // scores (keys, queries) = rows (keys, size) times columns (size, queries).
  void multiply(const float* rows, Index stride, const float* columns, Index size, float* scores) const {
    for (Index i = 0; i < kTile; i += strip_) {
      tile_product<false>({rows + i * stride, stride, 1}, {columns + i, kTile}, {scores + i * kTile + i, kTile}, strip_,
                          kTile - i, size);
    }
  }

  // keys (keys, stride) += scores times rows of the queries.
  void add_to_keys(const float* scores, const float* rows, Index stride, float* keys) const {
    for (Index i = 0; i < kTile; i += strip_) {
      tile_product<true>({scores + i * kTile + i, kTile, 1}, {rows + i * stride, stride}, {keys + i * stride, stride},
                         strip_, stride, kTile - i);
    }
  }

  // queries (queries, stride) += transposed scores times rows of the keys.
  void add_to_queries(const float* scores, const float* rows, Index stride, float* queries) const {
    for (Index i = 0; i < kTile; i += strip_) {
      tile_product<true>({scores + i, 1, kTile}, {rows, stride}, {queries + i * stride, stride}, strip_, stride,
                         i + strip_);
    }
  }

 private:
  bool diagonal_;
  Index strip_;
  Index reach_;  // the last key that query i of the tile sees is i - reach_ + 1
};

}  // namespace lorashard::kernels
