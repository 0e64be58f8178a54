// Both ends of the model: the embedding of tokens (and of positions, where they are learned), and the head with its loss.
#pragma once

#include "core/activation.hpp"
#include "core/normalization.hpp"
#include "core/parameters.hpp"

namespace lorashard::core {

class Embedding {
 public:
  Embedding(const Context& context, Parameters& parameters);
  bool trains() const { return trains_; }
  // (RowPart::buffer, C) in the activation type.
  Activation forward(const Microbatch& microbatch) const;
  void backward(const Activation& dx, const Microbatch& microbatch) const;

 private:
  void add_positions(const Microbatch& microbatch, const RowPart& part, Matrix x) const;

  const Context& context_;
  ConstMatrix table_, positions_;  // positions: empty where the family has none
  Matrix table_gradient_, positions_gradient_;
  bool trains_;
  Index first_ = 0;  // of this rank's vocabulary rows
};

// Final norm, logits and cross-entropy. Logits exist for a few rows at a time; their gradient is used up at once, in the
// forward pass, so that what waits for the backward pass is one (M, C) tensor.
class Head {
 public:
  // `input_gradient`: something below the final norm trains.
  Head(const Context& context, Parameters& parameters, bool input_gradient);

  // The loss over the microbatch's scored tokens, the same on every tensor rank, is added to `loss_total` (1,1) f64.
  // Returns the gradient of x, activation type; none without a backward pass.
  Activation forward(Activation x, const Microbatch& microbatch, bool gradient, Matrix loss_total) const;
  // (M, 1) f32: the loss of each row, 0 where nothing is scored; the same on every tensor rank. Rows must not be split.
  Tensor losses(const Activation& x, const Microbatch& microbatch) const;
  // (M, V) f32 of all tokens of the vocabulary, the same on every tensor rank. Rows must not be split.
  Tensor logits(const Activation& x, const Microbatch& microbatch) const;
  bool trains() const { return norm_.trains() || !table_gradient_.empty(); }

 private:
  // Rows of logits that exist at once, the same on every tensor rank.
  Index chunk_rows(Index rows) const;
  // What becomes of a chunk of rows, from row `first_row` of the microbatch on: their loss, and where a gradient is wanted
  // that of h (dh may be empty).
  struct Outcome {
    bool gradient;
    Matrix dh;
    Matrix loss_total;      // empty: not wanted
    Index first_row;
    Matrix row_losses = {};  // (M, 1) of the chunk, where they are wanted
  };
  void chunk(ConstMatrix h, kernels::Labels labels, const Microbatch& microbatch, const Outcome& to) const;

  const Context& context_;
  Norm norm_;
  bool input_gradient_;
  ConstMatrix table_;
  Matrix table_gradient_;
  Index first_ = 0;
};

}  // namespace lorashard::core
