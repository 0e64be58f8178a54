#include "kernels/attention_tiles.hpp"
#include "kernels/host_operations.hpp"

namespace lorashard::kernels {
namespace {

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
    std::fill_n(dk_, tiles_ * kTile * wide_, 0.0f);
    std::fill_n(dv_, tiles_ * kTile * wide_, 0.0f);
    for (Index head = s.first_head(kv_head); head < s.first_head(kv_head + 1); ++head) {
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
    for (Index other = first_key_tile(s, tile); other <= tile; ++other) {
      const TilePlace keys = place(s, batch, other, kv_head);
      load_tile(args_.k, keys, size_, 1.0f, k_, wide_);
      load_tile(args_.v, keys, size_, 1.0f, v_, wide_);
      key_tile(Visible(s, (tile - other) * kTile), dk_ + other * kTile * wide_, dv_ + other * kTile * wide_);
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
