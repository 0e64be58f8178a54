#include <cmath>
#include <limits>

#include "kernels/host_loops.hpp"
#include "kernels/host_operations.hpp"

namespace lorashard::kernels {
namespace {

// Exponentials are summed in float within a block and in double across the blocks of a vocabulary row.
struct RowSums {
  double exponentials = 0;
  double logits = 0;
};
RowSums sums_of(const float* z, Index cols, float maximum) {
  RowSums result;
  for (Index first = 0; first < cols; first += kBlock) {
    const Index count = std::min(kBlock, cols - first);
    const float* block = z + first;
    result.exponentials += lane_sum(count, [=](Index i) { return exponential(block[i] - maximum); });
    result.logits += lane_sum(count, [=](Index i) { return block[i]; });
  }
  return result;
}

float row_maximum(const float* z, Index cols) {
  constexpr Index kWidth = 32;
  float lanes[kWidth];
  std::fill_n(lanes, kWidth, -std::numeric_limits<float>::infinity());
  const Index whole = cols / kWidth * kWidth;
  for (Index i = 0; i < whole; i += kWidth) {
#pragma omp simd
    for (Index l = 0; l < kWidth; ++l) lanes[l] = z[i + l] > lanes[l] ? z[i + l] : lanes[l];
  }
  for (Index i = whole; i < cols; ++i) lanes[0] = std::max(lanes[0], z[i]);
  return *std::max_element(lanes, lanes + kWidth);
}

void row_gradient(const LossAndGradient& args, Index r, Index label_col) {
  const Index cols = args.logits.cols;
  float* z = args.logits.row<float>(r);
  const float maximum = args.maximum.row<float>(r)[0];
  const float over_sum = args.scale / args.sums.row<float>(r)[0];
  const float everywhere = args.scale * args.smoothing / static_cast<float>(args.vocab);
#pragma omp simd
  for (Index i = 0; i < cols; ++i) z[i] = exponential(z[i] - maximum) * over_sum - everywhere;
  if (label_col >= 0 && label_col < cols) z[label_col] -= args.scale * (1.0f - args.smoothing);
}

}  // namespace

void shard_maximum_host(ConstMatrix logits, Matrix maximum) {
#pragma omp parallel for schedule(static) if (logits.count() >= kWorthThreads)
  for (Index r = 0; r < logits.rows; ++r) maximum.row<float>(r)[0] = row_maximum(logits.row<float>(r), logits.cols);
}

void shard_sums_host(const ShardSums& args) {
  const ConstMatrix& logits = args.logits;
#pragma omp parallel for schedule(static) if (logits.count() >= kWorthThreads)
  for (Index r = 0; r < logits.rows; ++r) {
    const float* z = logits.row<float>(r);
    const RowSums row = sums_of(z, logits.cols, args.maximum.row<float>(r)[0]);
    const Index label_col = args.labels[r] - args.first;
    const bool owned = args.labels[r] != kUnscored && label_col >= 0 && label_col < logits.cols;
    float* sums = args.sums.row<float>(r);
    sums[0] = static_cast<float>(row.exponentials);
    sums[1] = owned ? z[label_col] : 0.0f;
    sums[2] = static_cast<float>(row.logits);
  }
}

void loss_and_gradient_host(const LossAndGradient& args) {
#pragma omp parallel for schedule(static) if (args.logits.count() >= kWorthThreads)
  for (Index r = 0; r < args.logits.rows; ++r) {
    float& loss = args.losses.row<float>(r)[0];
    if (args.labels[r] == kUnscored) {
      loss = 0.0f;
      if (args.gradient) std::fill_n(args.logits.row<float>(r), args.logits.cols, 0.0f);
      continue;
    }
    // In double: lse and the label's logit are large beside their difference once the model is sure.
    const float* sums = args.sums.row<float>(r);
    const double log_sum = args.maximum.row<float>(r)[0] + std::log(static_cast<double>(sums[0]));
    const double smoothing = args.smoothing;
    loss = static_cast<float>(log_sum - (1.0 - smoothing) * sums[1] - smoothing / args.vocab * sums[2]);
    if (args.gradient) row_gradient(args, r, args.labels[r] - args.first);
  }
}

void add_sum_host(ConstMatrix m, Matrix total) {
  total.row<double>(0)[0] += ordered_sum(m, [](double x) { return x; });
}

}  // namespace lorashard::kernels
