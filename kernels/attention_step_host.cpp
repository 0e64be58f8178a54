#include <cmath>
#include <limits>

#include "kernels/host_loops.hpp"
#include "kernels/host_operations.hpp"

namespace lorashard::kernels {
namespace {

// One sequence and key/value head: its keys and values are read once, for all heads of the group.
class StepTask {
 public:
  explicit StepTask(const AttentionStep& args)
      : args_(args),
        size_(args.shape.head_size),
        most_(std::min(args.shape.heads, args.shape.group_size())),
        span_(args.shape.span()),
        q_(most_ * size_),
        out_(most_ * size_),
        room_(size_),
        weights_(most_ * span_) {}

  void run(Index batch, Index kv_head) {
    const AttentionShape& s = args_.shape;
    const Index length = args_.lengths[batch], first = std::max<Index>(0, length - span_);
    head_ = s.first_head(kv_head);
    heads_ = s.first_head(kv_head + 1) - head_;
    const Index row = batch * s.length + first, col = kv_head * size_, count = length - first;
    scores(batch, row, col, count);
    std::fill_n(out_.data(), heads_ * size_, 0.0f);
    for (Index i = 0; i < count; ++i) {
      const float* value = read(args_.values, row + i, col, size_, room_.data());
      for (Index h = 0; h < heads_; ++h) {
        const float weight = weights_[h * span_ + i];
        float* to = out_.data() + h * size_;
#pragma omp simd
        for (Index d = 0; d < size_; ++d) to[d] += weight * value[d];
      }
    }
    for (Index h = 0; h < heads_; ++h) {
      const Index first_col = (head_ + h) * size_;
      float* to = target(args_.out, batch, first_col, room_.data());
      std::copy_n(out_.data() + h * size_, size_, to);
      write(args_.out, batch, first_col, size_, to);
    }
  }

 private:
  // weights (heads, count) = softmax of q key / sqrt(D).
  void scores(Index batch, Index row, Index col, Index count) {
    const float scale = 1.0f / std::sqrt(static_cast<float>(size_));
    for (Index h = 0; h < heads_; ++h) {
      const float* from = read(args_.q, batch, (head_ + h) * size_, size_, room_.data());
      std::copy_n(from, size_, q_.data() + h * size_);
    }
    for (Index i = 0; i < count; ++i) {
      const float* key = read(args_.keys, row + i, col, size_, room_.data());
      for (Index h = 0; h < heads_; ++h) {
        const float* q = q_.data() + h * size_;
        weights_[h * span_ + i] = scale * lane_sum(size_, [=](Index d) { return q[d] * key[d]; });
      }
    }
    for (Index h = 0; h < heads_; ++h) softmax(weights_.data() + h * span_, count);
  }

  static void softmax(float* x, Index count) {
    float highest = x[0];
    for (Index i = 1; i < count; ++i) highest = x[i] > highest ? x[i] : highest;
#pragma omp simd
    for (Index i = 0; i < count; ++i) x[i] = exponential(x[i] - highest);
    const float over_sum = 1.0f / lane_sum(count, [x](Index i) { return x[i]; });
#pragma omp simd
    for (Index i = 0; i < count; ++i) x[i] *= over_sum;
  }

  const AttentionStep& args_;
  Index size_, most_, span_;  // most_: heads of a group
  Index head_ = 0, heads_ = 0;
  std::vector<float> q_, out_, room_, weights_;
};

}  // namespace

void attention_host(const AttentionStep& args) {
  const AttentionShape& s = args.shape;
  for (const std::int32_t length : args.lengths) {
    if (length < 1 || length > s.length) {
      fail(Failure::other, text("attention step: a length is ", length, ", expected 1 to the capacity of ", s.length));
    }
  }
  if (args.out.empty()) return;
#pragma omp parallel if (s.batch * s.kv_heads > 1)
  {
    StepTask task(args);
#pragma omp for schedule(dynamic)
    for (Index i = 0; i < s.batch * s.kv_heads; ++i) task.run(i / s.kv_heads, i % s.kv_heads);
  }
}

}  // namespace lorashard::kernels
