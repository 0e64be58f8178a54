// Finishes gradients over the mesh, measures them, and applies AdamW: identically on every replica of a value.
#pragma once

#include "core/gradient_buckets.hpp"
#include "core/parameters.hpp"
#include "kernels/adamw.hpp"

namespace lorashard::core {

class Optimizer {
 public:
  Optimizer(const Context& context, Parameters& parameters, const OptimizerConfig& config);

  void zero_gradients();
  // The step's gradients of a layer are queued: starts the sums that this completes. Collective over the replica group.
  void layer_done(Index layer);
  // Collective. Afterwards replicated gradients are complete everywhere, and each rank's share of the dense ones is.
  void reduce();
  // Adds to `total` (1,1) f64 the part of the global sum of squares that this rank counts; the sum over all ranks counts
  // each value once.
  void add_squares(Matrix total);
  // Collective. `step` counts from 1. Gradients are scaled (clipping) as `control` says, see kernels::StepControl.
  void update(double lr, ConstMatrix control, Index step);
  // Bytes this rank hands to reduce().
  Index reduced_bytes() const;

 private:
  bool shares_tied_table() const;
  void sum_tied_table();
  void update_replicated(const kernels::AdamW& common);
  void update_dense(DenseParameter& parameter, const kernels::AdamW& common);

  const Context& context_;
  Parameters& parameters_;
  OptimizerConfig config_;
  GradientBuckets buckets_;
};

}  // namespace lorashard::core
