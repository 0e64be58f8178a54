// Finishes gradients over the mesh, measures them, and applies AdamW: identically on every replica of a value.
#pragma once

#include "core/parameters.hpp"

namespace lorashard::core {

class Optimizer {
 public:
  Optimizer(const Context& context, Parameters& parameters, const OptimizerConfig& config);

  void zero_gradients();
  // Collective. Afterwards replicated gradients are complete everywhere, and each rank's share of the dense ones is.
  void reduce();
  // The part of the global sum of squares that this rank counts; the sum over all ranks counts each value once.
  double sum_of_squares();
  // Collective. `step` counts from 1. Gradients are multiplied by `scale` first (clipping).
  void update(double lr, double scale, Index step);
  // Bytes this rank hands to reduce().
  Index reduced_bytes() const;

 private:
  bool shares_tied_table() const;
  void sum_tied_table();
  void update_replicated(double lr, double scale, Index step);
  void update_dense(DenseParameter& parameter, double lr, double scale, Index step);

  const Context& context_;
  Parameters& parameters_;
  OptimizerConfig config_;
};

}  // namespace lorashard::core
