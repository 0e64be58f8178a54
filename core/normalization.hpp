// The norm in front of a branch, LayerNorm or RMSNorm as the family has it, on this rank's rows of the residual stream.
#pragma once

#include "core/activation.hpp"
#include "core/parameters.hpp"

namespace lorashard::core {

class Norm {
 public:
  // `name`: "layers.3.norm1".
  Norm(const Context& context, Parameters& parameters, const std::string& name);

  bool trains() const { return trains_; }
  // y in the activation type; `statistics` (rows, 2), or (rows, 1) of RMSNorm, is filled when not null.
  Activation forward(const Activation& x, const Microbatch& microbatch, Tensor* statistics) const;
  // Adds the gradient through the norm to dx (residual layout, any type), and those of its own weights when they train.
  // dx is overwritten instead when `overwrite`.
  void backward(const Activation& x, ConstMatrix statistics, const Activation& dy, const Microbatch& microbatch, Matrix dx,
                bool overwrite = false) const;

 private:
  Matrix own_statistics(const RowPart& part, Tensor* statistics) const;

  const Context& context_;
  const std::string name_;
  bool rms_;
  ConstMatrix weight_, bias_;
  bool trains_;
  Matrix weight_gradient_, bias_gradient_;
};

// The norms over each head's queries, and keys, that some members of the llama family have: Henry et al. 2020 (arXiv
// 2010.04245) with RMSNorm. One weight (1, D) for all heads.
class HeadNorm {
 public:
  // `name`: "layers.3.attention.q_norm.weight".
  HeadNorm(const Context& context, Parameters& parameters, const std::string& name);
  bool trains() const { return trains_; }
  // y (M, n D) of x; `statistics` (M, n) is made when not null.
  void forward(ConstMatrix x, Matrix y, Tensor* statistics) const;
  // d (M, n D): the gradient of y becomes that of x.
  void backward(ConstMatrix x, ConstMatrix statistics, Matrix d) const;

 private:
  const Context& context_;
  ConstMatrix weight_;
  bool trains_;
  Matrix weight_gradient_;
};

}  // namespace lorashard::core
