// Causal self-attention without a stored T x T matrix: tiles of keys with a running softmax, and a backward pass that
// recomputes the probabilities from the row's log-sum-exp. Dao et al. 2022 (arXiv 2205.14135), algorithms 1 and 4.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "kernels/device.hpp"

namespace lorashard::kernels {

// B sequences of T tokens; H heads of size D over G key/value heads, each of which serves `group` heads that follow each
// other. A rank whose heads begin in the middle of a group has fewer of its first (and of its last) key/value head:
// `skew` heads of the first group lie on lower ranks. Head h meets key/value head (skew + h) / group, so that
// G == ceil((skew + H) / group).
struct AttentionShape {
  Index batch = 0;      // B
  Index length = 0;     // T
  Index heads = 0;      // H, of this rank
  Index kv_heads = 0;   // G, of this rank
  Index head_size = 0;  // D
  Index group = 0;      // 0: H / G
  Index skew = 0;
  Index window = 0;     // query t sees keys s with t - window < s <= t; 0: all keys s <= t
  Index rows() const { return batch * length; }
  Index group_size() const { return group == 0 ? heads / kv_heads : group; }
  Index kv_head(Index head) const { return (skew + head) / group_size(); }
  // Heads [first_head(g), first_head(g + 1)) of this rank meet key/value head g.
  Index first_head(Index kv_head) const { return std::clamp<Index>(kv_head * group_size() - skew, 0, heads); }
  // Keys that the last query of a sequence sees.
  Index span() const { return window == 0 || window > length ? length : window; }
};

// Heads on a cuda device, where a block's shared memory holds whole rows of a head, and B T H, which is counted there in
// 32 bits. A plan for one refuses more as a run does.
inline constexpr Index kLargestCudaHead = 256;
inline constexpr Index kMostCudaRows = Index{1} << 30;

// q (B*T, H*D), k and v (B*T, G*D), out (B*T, H*D): rows are (b, t), columns (head, d); column slices of one fused
// matrix are fine. scores = q k^T / sqrt(D). log_sum (H, B*T) f32 gets each row's log-sum-exp of its scores; it may be
// empty when no gradient needs it. Element types: all f32 or all bf16; softmax and sums in fp32.
// Cost: 4 D FLOPs for each visible pair, of which there are B H T (T + 1) / 2 without a window; q, k, v, out once.
struct AttentionForward {
  AttentionShape shape;
  ConstMatrix q, k, v;
  Matrix out;
  Matrix log_sum;
};
void attention(Device& device, const AttentionForward& args);

// dq, dk, dv are overwritten; same layouts as q, k, v. Cost: 10 D FLOPs a visible pair.
struct AttentionBackward {
  AttentionShape shape;
  ConstMatrix q, k, v, out, log_sum, dout;
  Matrix dq, dk, dv;
};
void attention(Device& device, const AttentionBackward& args);

// One new token of each of B sequences against the keys and values kept of it, its own included: generation.
// q, out (B, H D). keys, values (B capacity, G D): sequence b's token s is row b capacity + s. lengths: B counts in device
// memory, from 1 to capacity, the new token included; with a window the last `window` of them are seen. shape.length is
// the capacity. Any mix of f32 and bf16; softmax and sums in fp32. Cost: 4 D FLOPs a head and key, counted at full capacity
// (or window).
struct AttentionStep {
  AttentionShape shape;
  ConstMatrix q, keys, values;
  std::span<const std::int32_t> lengths;
  Matrix out;
};
void attention(Device& device, const AttentionStep& args);

}  // namespace lorashard::kernels
