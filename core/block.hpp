// A transformer block: x + o(attention(qkv(norm1 x))), then x + down(f(norm2 x)), where f is gelu(up x) or, in a gated
// family, silu(gate x) * up x. In a rotary family queries and keys are turned before they meet (and normed before that,
// where the shape says so).
//
// It keeps for its backward pass exactly what a gradient needs, given what trains in it and below it.
#pragma once

#include <optional>

#include "core/family.hpp"
#include "core/linear.hpp"
#include "core/normalization.hpp"
#include "core/rotary_positions.hpp"
#include "kernels/attention.hpp"

namespace lorashard::core {

// The heads of this rank, of no rows. Its first key/value head may serve heads of lower ranks as well.
kernels::AttentionShape heads_of(const Context& context);

// What a block holds between forward and backward, for one microbatch. Tensors that no gradient needs stay empty.
struct BlockSaved {
  Activation x;              // block input: residual layout
  Tensor statistics1;
  Activation h;              // norm1's output
  Tensor u_qkv;
  Activation qkv;            // (M, (H + 2 G) D / t), as attention reads it; or before its norm, if that is made again
  Tensor qk;                 // (M, (H + G) D / t), before its norm
  Tensor statistics_q, statistics_k;
  Activation attended;       // (M, H D / t)
  Tensor log_sum;            // (H / t, M)
  Tensor u_o;
  Activation x2;             // between the branches
  Tensor statistics2;
  Activation h2;             // norm2's output
  Tensor u_up;
  Activation up;             // (M, F / t), before GELU; or gate and up, (M, 2 F / t)
  Activation active;         // (M, F / t), what down multiplies
  Tensor u_down;
};

class Block {
 public:
  // `input_gradient`: something below this block trains. `positions`: null in a family that is not rotary; outlives it.
  Block(const Context& context, Parameters& parameters, Index layer, bool input_gradient, const RotaryPositions* positions);

  // Of all its linear layers.
  void attach_adapters(Parameters& parameters);

  // True when something in this block or below it trains, so that it has a backward pass.
  bool has_backward() const { return needs_.down_output; }
  bool trains_inside() const;

  // `saved` null: nothing will be asked of backward (evaluation).
  Activation forward(Activation x, const Microbatch& microbatch, BlockSaved* saved) const;
  // dy: gradient of the block's output, residual layout, activation type. Returns the gradient of its input; none when
  // nothing below trains. Requires has_backward().
  Activation backward(Activation dy, const Microbatch& microbatch, BlockSaved saved) const;

 private:
  // Which gradients exist, from the bottom up: of each point's value.
  struct Needs {
    bool input = false, norm1_output = false, qkv_output = false, o_output = false, middle = false, norm2_output = false,
         up_output = false, down_output = false;
  };
  struct Keep {
    bool x = false, h = false, attention = false, raw_heads = false, attended = false, x2 = false, h2 = false,
         up = false, active = false;
  };
  Keep what_to_keep() const;
  Activation attention_branch(const Activation& x, const Microbatch& microbatch, BlockSaved* saved, const Keep& keep) const;
  Activation mlp_inner(const Activation& x2, const Microbatch& microbatch, BlockSaved* saved, const Keep& keep) const;
  // Forward again from saved.x, up to what the backward pass needs; the block's output itself is left out.
  void forward_again(const Microbatch& microbatch, BlockSaved& saved) const;
  Activation norm_again(const Norm& norm, const Activation& x, const Microbatch& microbatch) const;
  void prepare_heads(Matrix qkv, const Microbatch& microbatch, BlockSaved* saved) const;
  void restore_raw_heads(Matrix qkv, BlockSaved& saved) const;
  void backward_through_heads(Matrix dqkv, const Microbatch& microbatch, BlockSaved& saved) const;
  void activate(const Activation& up, Activation& active) const;
  void backward_mlp(Activation& dy, const Microbatch& microbatch, BlockSaved& saved) const;
  void backward_attention(Activation& dy, const Microbatch& microbatch, BlockSaved& saved) const;
  Activation attend(const Activation& qkv, const Microbatch& microbatch, Tensor* log_sum) const;
  void attend_to_cache(ConstMatrix q, const Microbatch& microbatch, Matrix out) const;

  kernels::AttentionShape attention_shape(const Microbatch& microbatch) const;
  // The query and key columns of a fused qkv.
  template <class View>
  View queries_and_keys(View qkv) const {
    return qkv.col_range(0, (heads_.heads + heads_.kv_heads) * heads_.head_size);
  }

  const Context& context_;
  const Family& family_;
  const Index layer_;
  const std::string name_;
  const RotaryPositions* const positions_;
  Norm norm1_;
  Linear qkv_, o_;
  std::optional<HeadNorm> q_norm_, k_norm_;
  kernels::AttentionShape heads_;  // this rank's, of no rows
  Norm norm2_;
  Linear up_, down_;
  Needs needs_;
};

}  // namespace lorashard::core
