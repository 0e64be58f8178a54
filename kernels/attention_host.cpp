// Attention on the host. Scores are kept transposed, (keys, queries): then the softmax of a tile runs over its rows
// with one query per vector lane, keys and values are multiplied as they lie, and only the queries are transposed, once
// a tile. Work is cut into whole tiles; a tile past the end of the sequence is filled up with zeros, which the causal
// mask keeps from the rows that exist.
#include <cmath>
#include <limits>

#include "kernels/host_operations.hpp"
#include "kernels/host_tiles.hpp"

namespace lorashard::kernels {
namespace {

constexpr Index kTile = 64;  // queries, and keys, a tile

// Where a tile's rows lie: rows (batch, token) of a matrix, columns of one head.
struct TilePlace {
  Index row, col, count;  // count: rows that exist, at most kTile
};
TilePlace place(const AttentionShape& s, Index batch, Index tile, Index head) {
  return {batch * s.length + tile * kTile, head * s.head_size, std::min(kTile, s.length - tile * kTile)};
}

// tile (kTile, stride) = scale * the rows at p, zero beyond them.
void load_tile(const ConstMatrix& m, const TilePlace& p, Index size, float scale, float* tile, Index stride) {
  for (Index i = 0; i < p.count; ++i) {
    float* to = tile + i * stride;
    const float* from = read(m, p.row + i, p.col, size, to);
#pragma omp simd
    for (Index d = 0; d < size; ++d) to[d] = scale * from[d];
  }
  for (Index i = p.count; i < kTile; ++i) std::fill_n(tile + i * stride, size, 0.0f);
}

// The rows at p = scale[i] * tile.
void store_tile(const Matrix& m, const TilePlace& p, Index size, const float* scale, const float* tile, Index stride) {
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
void transpose_tile(const float* from, Index stride, Index size, float* to) {
  for (Index d = 0; d < size; ++d) {
    for (Index i = 0; i < kTile; ++i) to[d * kTile + i] = from[i * stride + d];
  }
}

// Which (key, query) pairs of a tile exist: all, or on the diagonal those with key <= query. There, products and
// exponentials leave out what lies below the diagonal, in strips of as many keys as a product's block is wide.
class Visible {
 public:
  explicit Visible(bool diagonal) : diagonal_(diagonal), strip_(diagonal ? kBlockCols : kTile) {}

  // Queries before this one do not meet the key's strip: their scores are neither written nor read.
  Index first_query(Index key) const { return key / strip_ * strip_; }

  // Of the scores that are written, those of unseen keys become -infinity.
  void mask(float* scores) const {
    if (!diagonal_) return;
    for (Index key = 1; key < kTile; ++key) {
      std::fill(scores + key * kTile + first_query(key), scores + key * kTile + key,
                -std::numeric_limits<float>::infinity());
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
};

// The running softmax of a tile of queries: its maximum, the sum of exp(score - maximum), and the factor that brings
// what was summed before to the new maximum.
struct RunningSoftmax {
  float maximum[kTile], sum[kTile], rescale[kTile];

  RunningSoftmax() {
    std::fill_n(maximum, kTile, -std::numeric_limits<float>::infinity());
    std::fill_n(sum, kTile, 0.0f);
  }

  // scores (keys, queries) -> exp(scores - new maximum).
  void take(const Visible& visible, float* scores) {
    float highest[kTile], added[kTile] = {};
    std::copy_n(maximum, kTile, highest);
    for (Index key = 0; key < kTile; ++key) {
      const float* row = scores + key * kTile;
#pragma omp simd
      for (Index q = visible.first_query(key); q < kTile; ++q) highest[q] = row[q] > highest[q] ? row[q] : highest[q];
    }
    for (Index key = 0; key < kTile; ++key) {
      float* row = scores + key * kTile;
#pragma omp simd
      for (Index q = visible.first_query(key); q < kTile; ++q) {
        row[q] = exponential(row[q] - highest[q]);
        added[q] += row[q];
      }
    }
#pragma omp simd
    for (Index q = 0; q < kTile; ++q) {
      rescale[q] = exponential(maximum[q] - highest[q]);
      sum[q] = sum[q] * rescale[q] + added[q];
      maximum[q] = highest[q];
    }
  }
};

void scale_rows(float* tile, Index stride, const float* factors) {
  for (Index i = 0; i < kTile; ++i) {
#pragma omp simd
    for (Index d = 0; d < stride; ++d) tile[i * stride + d] *= factors[i];
  }
}

class ForwardTask {
 public:
  explicit ForwardTask(const AttentionForward& args)
      : args_(args), size_(args.shape.head_size), wide_(padded(size_)), scratch_(5 * kTile * wide_ + kTile * kTile) {
    q_ = scratch_.take(kTile * wide_);
    q_transposed_ = scratch_.take(kTile * wide_);
    k_ = scratch_.take(kTile * wide_);
    v_ = scratch_.take(kTile * wide_);
    out_ = scratch_.take(kTile * wide_);
    scores_ = scratch_.take(kTile * kTile);
  }

  void run(Index batch, Index head, Index tile) {
    const AttentionShape& s = args_.shape;
    const Index kv_head = head / (s.heads / s.kv_heads);
    const TilePlace queries = place(s, batch, tile, head);
    load_tile(args_.q, queries, size_, 1.0f / std::sqrt(static_cast<float>(size_)), q_, wide_);
    transpose_tile(q_, wide_, size_, q_transposed_);
    std::fill_n(out_, kTile * wide_, 0.0f);
    RunningSoftmax softmax;
    for (Index other = 0; other <= tile; ++other) {
      const TilePlace keys = place(s, batch, other, kv_head);
      load_tile(args_.k, keys, size_, 1.0f, k_, wide_);
      load_tile(args_.v, keys, size_, 1.0f, v_, wide_);
      const Visible visible(other == tile);
      visible.multiply(k_, wide_, q_transposed_, size_, scores_);
      visible.mask(scores_);
      softmax.take(visible, scores_);
      if (other > 0) scale_rows(out_, wide_, softmax.rescale);
      visible.add_to_queries(scores_, v_, wide_, out_);
    }
    finish(queries, head, softmax);
  }

 private:
  void finish(const TilePlace& queries, Index head, const RunningSoftmax& softmax) {
    float over_sum[kTile];
    for (Index i = 0; i < kTile; ++i) over_sum[i] = 1.0f / softmax.sum[i];
    store_tile(args_.out, queries, size_, over_sum, out_, wide_);
    if (args_.log_sum.empty()) return;
    float* log_sum = args_.log_sum.row<float>(head) + queries.row;
    for (Index i = 0; i < queries.count; ++i) log_sum[i] = softmax.maximum[i] + std::log(softmax.sum[i]);
  }

  const AttentionForward& args_;
  Index size_, wide_;
  Scratch scratch_;
  float *q_, *q_transposed_, *k_, *v_, *out_, *scores_;
};

// All of one sequence and key/value head: its queries in order, their keys in order, so every sum has one order.
class BackwardTask {
 public:
  explicit BackwardTask(const AttentionBackward& args)
      : args_(args),
        size_(args.shape.head_size),
        wide_(padded(size_)),
        tiles_(divide_up(args.shape.length, kTile)),
        scratch_((2 * tiles_ + 7) * kTile * wide_ + 2 * kTile * kTile) {
    dk_ = scratch_.take(tiles_ * kTile * wide_);
    dv_ = scratch_.take(tiles_ * kTile * wide_);
    q_ = scratch_.take(kTile * wide_);
    q_transposed_ = scratch_.take(kTile * wide_);
    dout_ = scratch_.take(kTile * wide_);
    dout_transposed_ = scratch_.take(kTile * wide_);
    k_ = scratch_.take(kTile * wide_);
    v_ = scratch_.take(kTile * wide_);
    dq_ = scratch_.take(kTile * wide_);
    scores_ = scratch_.take(kTile * kTile);
    dscores_ = scratch_.take(kTile * kTile);
  }

  void run(Index batch, Index kv_head) {
    const AttentionShape& s = args_.shape;
    const Index group = s.heads / s.kv_heads;
    std::fill_n(dk_, tiles_ * kTile * wide_, 0.0f);
    std::fill_n(dv_, tiles_ * kTile * wide_, 0.0f);
    for (Index head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (Index tile = 0; tile < tiles_; ++tile) query_tile(batch, head, kv_head, tile);
    }
    float ones[kTile];
    std::fill_n(ones, kTile, 1.0f);
    for (Index tile = 0; tile < tiles_; ++tile) {
      const TilePlace keys = place(s, batch, tile, kv_head);
      store_tile(args_.dk, keys, size_, ones, dk_ + tile * kTile * wide_, wide_);
      store_tile(args_.dv, keys, size_, ones, dv_ + tile * kTile * wide_, wide_);
    }
  }

 private:
  void query_tile(Index batch, Index head, Index kv_head, Index tile) {
    const AttentionShape& s = args_.shape;
    const float scale = 1.0f / std::sqrt(static_cast<float>(size_));
    const TilePlace queries = place(s, batch, tile, head);
    load_queries(queries, head, scale);
    std::fill_n(dq_, kTile * wide_, 0.0f);
    for (Index other = 0; other <= tile; ++other) {
      const TilePlace keys = place(s, batch, other, kv_head);
      load_tile(args_.k, keys, size_, 1.0f, k_, wide_);
      load_tile(args_.v, keys, size_, 1.0f, v_, wide_);
      key_tile(Visible(other == tile), dk_ + other * kTile * wide_, dv_ + other * kTile * wide_);
    }
    float scales[kTile];
    std::fill_n(scales, kTile, scale);
    store_tile(args_.dq, queries, size_, scales, dq_, wide_);
  }

  // q scaled, dout, both transposed too; log_sum, and delta = the row's dout . out.
  void load_queries(const TilePlace& queries, Index head, float scale) {
    load_tile(args_.q, queries, size_, scale, q_, wide_);
    load_tile(args_.dout, queries, size_, 1.0f, dout_, wide_);
    transpose_tile(q_, wide_, size_, q_transposed_);
    transpose_tile(dout_, wide_, size_, dout_transposed_);
    const float* log_sum = args_.log_sum.row<float>(head) + queries.row;
    std::fill_n(log_sum_, kTile, 0.0f);
    std::fill_n(delta_, kTile, 0.0f);
    for (Index i = 0; i < queries.count; ++i) {
      const float* out = read(args_.out, queries.row + i, queries.col, size_, k_);
      const float* dout = dout_ + i * wide_;
      log_sum_[i] = log_sum[i];
      delta_[i] = lane_sum(size_, [=](Index d) { return out[d] * dout[d]; });
    }
  }

  // One tile of scores S = K Q^T and of their gradients dS = P (dP - delta), dP = V dO^T; then dV += P dO,
  // dK += dS Q, dQ += dS^T K.
  void key_tile(const Visible& visible, float* dk, float* dv) {
    visible.multiply(k_, wide_, q_transposed_, size_, scores_);
    visible.mask(scores_);
    visible.multiply(v_, wide_, dout_transposed_, size_, dscores_);
    for (Index key = 0; key < kTile; ++key) {
      float *p = scores_ + key * kTile, *ds = dscores_ + key * kTile;
#pragma omp simd
      for (Index q = visible.first_query(key); q < kTile; ++q) {
        p[q] = exponential(p[q] - log_sum_[q]);
        ds[q] = p[q] * (ds[q] - delta_[q]);
      }
    }
    visible.add_to_keys(scores_, dout_, wide_, dv);
    visible.add_to_keys(dscores_, q_, wide_, dk);
    visible.add_to_queries(dscores_, k_, wide_, dq_);
  }

  const AttentionBackward& args_;
  Index size_, wide_, tiles_;
  Scratch scratch_;
  float *dk_, *dv_, *q_, *q_transposed_, *dout_, *dout_transposed_, *k_, *v_, *dq_, *scores_, *dscores_;
  float log_sum_[kTile], delta_[kTile];
};

}  // namespace

void attention_host(const AttentionForward& args) {
  const AttentionShape& s = args.shape;
  if (args.out.empty()) return;
  const Index tiles = divide_up(s.length, kTile), heads = s.batch * s.heads;
#pragma omp parallel if (heads * tiles > 1)
  {
    ForwardTask task(args);
    // Late tiles see the most keys and go first, so that no thread is left with one at the end.
#pragma omp for schedule(dynamic)
    for (Index i = 0; i < heads * tiles; ++i) {
      task.run(i / tiles / s.heads, i / tiles % s.heads, tiles - 1 - i % tiles);
    }
  }
}

void attention_host(const AttentionBackward& args) {
  const AttentionShape& s = args.shape;
  if (args.out.empty()) return;
#pragma omp parallel if (s.batch * s.kv_heads > 1)
  {
    BackwardTask task(args);
#pragma omp for schedule(dynamic)
    for (Index i = 0; i < s.batch * s.kv_heads; ++i) task.run(i / s.kv_heads, i % s.kv_heads);
  }
}

}  // namespace lorashard::kernels
