// Cross-entropy over a vocabulary that is cut over ranks, in three steps with two small reductions between them:
//
//   1. shard_maximum:  each rank's row maximum                    -> MAX over the tensor axis
//   2. shard_sums:     sum of exp(z - max), the label's logit and the sum of the logits (for smoothing)
//                                                                 -> SUM over the tensor axis
//   3. loss_and_gradient: the loss of each row, and the logits replaced by their gradient
//
// Rows whose label is kUnscored have no loss and a zero gradient. With smoothing e the target is 1 - e on the label plus
// e / V on every entry, so the row's loss is lse - (1 - e) z_label - e / V * sum(z). All f32.
#pragma once

#include <span>

#include "kernels/device.hpp"

namespace lorashard::kernels {

inline constexpr std::int32_t kUnscored = -100;
using Labels = std::span<const std::int32_t>;  // in device memory (kernels::Integers)

// maximum (M,1) = row maxima of logits (M, V/t). A shard without columns gives -infinity.
void shard_maximum(Device& device, ConstMatrix logits, Matrix maximum);

// sums (M,3): sum exp(z - maximum), z of the label if this shard owns it (else 0), sum of z - each over own columns.
struct ShardSums {
  ConstMatrix logits;   // (M, V/t)
  Labels labels;        // M
  Index first = 0;      // first vocabulary row of this shard
  ConstMatrix maximum;  // (M,1), of the whole row
  Matrix sums;          // (M,3)
};
void shard_sums(Device& device, const ShardSums& args);

// losses (M,1) = loss of each row (0 when unscored); logits = scale * (softmax - target), in place. With `gradient`
// false the logits are left alone. Identical on every rank of the tensor axis given the reduced inputs.
struct LossAndGradient {
  Matrix logits;        // (M, V/t), overwritten
  Labels labels;
  Index first = 0;
  Index vocab = 0;      // V, of all shards
  float smoothing = 0.0f;
  float scale = 1.0f;   // 1 / scored tokens of the global batch
  ConstMatrix maximum;  // (M,1)
  ConstMatrix sums;     // (M,3), of the whole row
  Matrix losses;        // (M,1)
  bool gradient = true;
};
void loss_and_gradient(Device& device, const LossAndGradient& args);

// total (1,1) f64 += the sum of all elements of m (f32), in double, in an order that depends on the extents alone.
void add_sum(Device& device, ConstMatrix m, Matrix total);

}  // namespace lorashard::kernels
