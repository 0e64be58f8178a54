// The norm in front of a branch, on this rank's rows of the residual stream.
#pragma once

#include "core/activation.hpp"
#include "core/parameters.hpp"

namespace lorashard::core {

class Norm {
 public:
  // `name`: "layers.3.norm1".
  Norm(const Context& context, Parameters& parameters, const std::string& name);

  bool trains() const { return trains_; }
  // y in the activation type; `statistics` (rows, 2) is filled when not null.
  Activation forward(const Activation& x, const Microbatch& microbatch, Tensor* statistics) const;
  // Adds the gradient through the norm to dx (residual layout, any type), and those of its own weights when they train.
  // dx is overwritten instead when `overwrite`.
  void backward(const Activation& x, ConstMatrix statistics, const Activation& dy, const Microbatch& microbatch, Matrix dx,
                bool overwrite = false) const;

 private:
  const Context& context_;
  const std::string name_;
  ConstMatrix weight_, bias_;
  bool trains_;
  Matrix weight_gradient_, bias_gradient_;
};

}  // namespace lorashard::core
