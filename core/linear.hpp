// A sharded linear layer with its adapters: the table of DESIGN section 5 in code.
//
// column-cut W (out/t, in):  input is the residual stream (whole, or this rank's rows), output is cut like W's rows.
//     u = A x;  y_i = W_i x + b_i + s B_i u             nothing to sum; backward: dx is partial, reduced once
// row-cut W (out, in/t):     input is cut, output is the residual stream.
//     u_i = A_i x_i;  y_i = W_i x_i + s B u_i           base and adapter are added first, one reduction carries both;
//     residual stream + y + b                           on one tensor rank the product itself adds all of it
//
// s B u is stored first where it covers y, and the product with W adds to it: y is passed over once less.
//
// Either way each rank's gradients of A and B are partial sums over the tensor axis (zero where another rank owns the
// rows), which the replica group's one all-reduce finishes. With split rows a column layer computes u from this rank's
// rows and gathers it (R wide instead of C); du is reduce-scattered the same way, and its dA is a partial sum all the same.
#pragma once

#include <optional>

#include "core/activation.hpp"
#include "core/parameters.hpp"
#include "kernels/elementwise.hpp"

namespace lorashard::core {

// The mask of a linear layer's adapter input at one step: element (r, c) of the (all rows of the global batch, in) input,
// shared by all pairs of the layer.
kernels::RandomKey dropout_key(std::uint64_t seed, const std::string& linear, Index step);

class Linear {
 public:
  enum class Kind { column, row };

  // `name`: "layers.3.attention.qkv". The parameters must outlive it.
  Linear(const Context& context, Parameters& parameters, Kind kind, Index layer, const std::string& name);

  // Takes the pairs that the parameters have now. The constructor does; call it again after Parameters::replace_adapters().
  void attach_adapters(Parameters& parameters);

  bool trains() const { return !pairs_.empty() || dense_ || bias_trains_; }
  // True when a gradient needs the layer's input.
  bool needs_input() const { return !pairs_.empty() || dense_; }

  // Of a column layer that is followed by GELU: y = gelu(z), and z is kept for the backward pass.
  struct Gelu {
    Tensor* before = nullptr;  // gets z; null when no gradient needs it
  };

  // Column layers. x: residual layout. Returns (M, out/t) in the activation type. `u` gets what backward wants; it may be
  // null.
  Activation forward(const Activation& x, const Microbatch& microbatch, Tensor* u, std::optional<Gelu> gelu = {}) const;
  // Row layers. x: this rank's columns (M, in/t). Returns residual + y + bias, as the residual stream lies, in the
  // activation type.
  Activation forward(const Activation& x, const Activation& residual, const Microbatch& microbatch, Tensor* u) const;

  // Only u of a row layer, for a block that runs forward again and has no use for y.
  void project_again(const Activation& x, const Microbatch& microbatch, Tensor* u) const;

  // What a gradient needs beside that of y.
  struct Backward {
    const Activation& x;              // forward's input; unused, and may be none, unless needs_input()
    ConstMatrix u;
    const Activation& dy;             // cut (M, out/t) for a column layer, residual layout for a row layer
    bool wants_input_gradient = true;
    const Tensor* before_gelu = nullptr;  // row layers: x was gelu of this (M, in/t), and its gradient is wanted
  };
  // Adds the gradients of pairs, weight and bias. Returns the gradient of x (of what came before GELU): residual layout
  // (column; f32 where ranks sum it) or (M, in/t) in the activation type (row); none unless it is wanted.
  Activation backward(const Backward& args, const Microbatch& microbatch) const;

 private:
  // Output columns [local, local + count) of this rank are rows [b_row, b_row + count) of a pair's B.
  struct Piece {
    Index b_row = 0, local = 0, count = 0;
  };
  struct Pair {
    AdapterSpec spec;
    Index u_first = 0;  // its columns of u
    std::vector<Piece> pieces;
    Matrix b, db;
  };

  void attach(const AdapterSpec& spec, Parameters& parameters);
  Activation add_to_residual(const Activation& x, const Activation& residual, const Microbatch& microbatch, Tensor* u) const;
  Activation backward_column(const Backward& args, const Microbatch& microbatch) const;
  Activation backward_row(const Backward& args, const Microbatch& microbatch) const;
  Tensor gather_rows(Tensor part, Index rows) const;
  kernels::DropoutMask mask(const Microbatch& microbatch, Index first_row) const;
  bool adds_pairs() const { return !pairs_.empty() && !context_.skips_adapters; }  // in a forward pass
  bool drops(const Microbatch& microbatch) const { return context_.dropout > 0 && microbatch.training; }
  Tensor adapter_input(ConstMatrix x, const Microbatch& microbatch, Index first_row) const;
  void add_adapter_gradient(ConstMatrix du, const Microbatch& microbatch, Index first_row, Matrix dx) const;
  // The products with W, frozen or trained, of what gemm.hpp calls a WeightForward and a WeightBackward.
  struct Product {
    ConstMatrix bias = {};
    ConstMatrix addend = {};
    kernels::Epilogue epilogue = kernels::Epilogue::none;
    Matrix aux = {};
    ConstMatrix aux_in = {};
  };
  void multiply_forward(ConstMatrix x, Matrix y, const Product& product) const;
  void multiply_backward(ConstMatrix dy, Matrix dx, const Product& product) const;
  void input_gradient(ConstMatrix dy, ConstMatrix du, const Microbatch& microbatch, Matrix dx, const Tensor* before_gelu) const;
  void dense_gradient(ConstMatrix dy, ConstMatrix x) const;
  Tensor project_down(ConstMatrix x, const Microbatch& microbatch, const RowPart& part) const;
  // y = s u B^T + addend, pair by pair; an empty addend is none, y itself adds to what it holds.
  void project_up(ConstMatrix u, Matrix y, ConstMatrix addend) const;
  Tensor backward_through_b(ConstMatrix dy, ConstMatrix u) const;
  void gradient_of_a(ConstMatrix du, ConstMatrix x, const Microbatch& microbatch, Index first_row) const;

  const Context& context_;
  std::string name_;
  Kind kind_;
  Index layer_;
  ActivationKind made_;           // what a column layer makes
  dist::AxisCut out_, in_;        // of the weight
  const kernels::Weight* frozen_ = nullptr;
  ConstMatrix dense_value_;       // when the weight trains itself
  Matrix dense_gradient_;
  bool dense_ = false, bias_trains_ = false;
  ConstMatrix bias_;
  Matrix bias_gradient_;
  std::vector<Pair> pairs_;
  bool pairs_cover_ = false;      // every output column of this rank belongs to one of them
  Index rank_sum_ = 0;            // of all pairs: the width of u
  Matrix a_, da_;                 // this rank's columns of all pairs' A, stacked (rank_sum, in/t)
};

}  // namespace lorashard::core
