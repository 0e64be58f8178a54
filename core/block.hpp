// A transformer block of the GPT-2 family: x + o(attention(qkv(norm1 x))), then x + down(gelu(up(norm2 x))).
//
// It keeps for its backward pass exactly what a gradient needs, given what trains in it and below it.
#pragma once

#include "core/linear.hpp"
#include "core/normalization.hpp"

namespace lorashard::core {

// What a block holds between forward and backward, for one microbatch. Tensors that no gradient needs stay empty.
struct BlockSaved {
  Activation x;              // block input: residual layout
  Tensor statistics1;
  Activation h;              // norm1's output
  Tensor u_qkv;
  Activation qkv;            // (M, (H + 2 G) D / t)
  Activation attended;       // (M, H D / t)
  Tensor log_sum;            // (H / t, M)
  Tensor u_o;
  Activation x2;             // between the branches
  Tensor statistics2;
  Activation h2;             // norm2's output
  Tensor u_up;
  Activation up;             // (M, F / t), before GELU
  Activation active;         // after GELU
  Tensor u_down;
};

class Block {
 public:
  // `input_gradient`: something below this block trains.
  Block(const Context& context, Parameters& parameters, Index layer, bool input_gradient);

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
    bool x = false, h = false, attention = false, attended = false, x2 = false, h2 = false, up = false, active = false;
  };
  Keep what_to_keep() const;
  Activation attention_branch(const Activation& x, const Microbatch& microbatch, BlockSaved* saved, const Keep& keep) const;
  Activation mlp_inner(const Activation& x2, const Microbatch& microbatch, BlockSaved* saved, const Keep& keep) const;
  // Forward again from saved.x, up to what the backward pass needs; the block's output itself is left out.
  void forward_again(const Microbatch& microbatch, BlockSaved& saved) const;
  Activation norm_again(const Norm& norm, const Activation& x, const Microbatch& microbatch) const;
  void backward_mlp(Activation& dy, const Microbatch& microbatch, BlockSaved& saved) const;
  void backward_attention(Activation& dy, const Microbatch& microbatch, BlockSaved& saved) const;
  Activation attend(const Activation& qkv, const Microbatch& microbatch, Tensor* log_sum) const;

  const Context& context_;
  const std::string name_;
  Norm norm1_;
  Linear qkv_, o_;
  Norm norm2_;
  Linear up_, down_;
  Needs needs_;
};

}  // namespace lorashard::core
