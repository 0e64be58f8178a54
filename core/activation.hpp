// An activation with its state over the tensor axis, and the only ways from one state to another.
//
//   whole    every tensor rank holds all M rows and all columns
//   cut      this rank's columns (inside a block), or this rank's rows of the residual stream under sequence parallelism
//   partial  the value is the sum over the tensor ranks
#pragma once

#include "core/context.hpp"

namespace lorashard::core {

struct Activation {
  Tensor data;
  dist::ParallelState state = dist::ParallelState::whole;
};

// A partial sum (gathered_rows, C) f32 becomes the residual stream's layout: all-reduced, or with split rows
// reduce-scattered to this rank's part. Nothing happens on one tensor rank.
Activation reduce_to_residual(const Context& context, Activation partial);

// A residual-stream tensor (RowPart::buffer, n) becomes all M rows (gathered_rows, n) on every tensor rank. `what` names
// it in messages. Takes part by view and returns a new tensor only when rows are split.
class Gathered {
 public:
  Gathered(const Context& context, ConstMatrix part, Index rows);
  ConstMatrix rows() const { return view_; }  // the M rows, padding left out

 private:
  Tensor whole_;
  ConstMatrix view_;
};

}  // namespace lorashard::core
