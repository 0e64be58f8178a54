#include "kernels/attention_tiles.hpp"
#include "kernels/host_operations.hpp"

namespace lorashard::kernels {
namespace {

// The running softmax of a tile of queries: its maximum, the sum of exp(score - maximum), and the factor that brings
// what was summed before to the new maximum.
struct RunningSoftmax {
  float maximum[kTile], sum[kTile], rescale[kTile];

  RunningSoftmax() {
    // Not -infinity, which an unseen score has: with a window, a query may see nothing of the first tile, and the
    // difference of two infinities is no number.
    std::fill_n(maximum, kTile, std::numeric_limits<float>::lowest());
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
    const Index kv_head = s.kv_head(head), first = first_key_tile(s, tile);
    const TilePlace queries = place(s, batch, tile, head);
    load_tile(args_.q, queries, size_, 1.0f / std::sqrt(static_cast<float>(size_)), q_, wide_);
    transpose_tile(q_, wide_, size_, q_transposed_);
    std::fill_n(out_, kTile * wide_, 0.0f);
    RunningSoftmax softmax;
    for (Index other = first; other <= tile; ++other) {
      const TilePlace keys = place(s, batch, other, kv_head);
      load_tile(args_.k, keys, size_, 1.0f, k_, wide_);
      load_tile(args_.v, keys, size_, 1.0f, v_, wide_);
      const Visible visible(s, (tile - other) * kTile);
      visible.multiply(k_, wide_, q_transposed_, size_, scores_);
      visible.mask(scores_);
      softmax.take(visible, scores_);
      if (other > first) scale_rows(out_, wide_, softmax.rescale);
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

}  // namespace lorashard::kernels
