// How far two honest computations of one training step may lie apart: what the certificate of parity.hpp allows.
// Nothing here is measured or tuned.
//
// One sum. Adding n numbers in fp32, in any order, by any cut, errs by n roundings of up to u = 2^-24. Roundings are as
// good as independent, and their sum walks like sqrt(n): within lambda sqrt(n) u of the terms' magnitude but with a
// chance of 2 n exp(-lambda^2 / 2) (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. 2002, section 4.2
// for n u, section 2.8 for the rule of thumb sqrt(n) u; Higham and Mary, SIAM J. Sci. Comput. 41, 2019, theorem 2.4,
// for lambda). Terms of either sign, as in gradients, make the sum as small as sqrt(n) of them and its partial sums too
// (Higham and Mary, SIAM J. Sci. Comput. 42, 2020), so the error is measured against the sum's own magnitude.
//
// A gradient. Its path through the model is a chain of such sums, forward and backward through every layer, and a last
// one over the rows of the batch, the microbatches and the ranks. Norms keep each link's relative error at about its
// size, so the errors add like sqrt(n_1 + n_2 + ...) with n_i the lengths along the path: sums_on_path().
// Values that are stored, or multiplied, in fewer bits are rounded by 2^-9 (bf16) or 2^-10 (TF32): 8 forward and 10
// backward in a layer and 4 at the ends (tests/core/ranks_model.cpp counts the same), TF32 both sides of each product.
// Two computations differ by sqrt(2) times the error of one. Together: relative_error().
//
// Against what. A tensor's root mean square is its magnitude. A matrix's gradient is a sum of products of an output's
// and an input's value, so where a row or a column is large, its elements' terms are, and with them their error: an
// element's magnitude is that of its row times that of its column over that of all, or the tensor's, or its own,
// whichever is most. What is small because large terms cancel keeps their error: no magnitude counts as less than 1 %
// of that of all gradients together. A single element stays within 8 times the error (lambda = 8: 2 n exp(-32), for
// 10^7 elements and n = 1000 one false alarm in 4000 certificates), a tensor's root mean square, in which its
// elements' errors average, within 4 times (as in ranks_model.cpp).
//
// The faults that the certificate is for are factors: a sum over n ranks that is missing or an average (1 / n), one
// done twice (n), a term left out. They change a gradient by about itself, or by 1 / n of it; in fp32 some 10^-5 is
// allowed.
//
// Later steps start from weights that differ already, by what AdamW makes of the gradients' error. A gradient is a
// product of the weights on its path, each there at most twice (forward, backward), so it changes by at most twice what
// each of them does; these changes are roundings too and add like their root of squares: drift(), of the weights as
// found, joins the step's own error in the same way.
#pragma once

#include <vector>

#include "core/trainer.hpp"

namespace lorashard::core {

inline constexpr double kElementFactor = 8, kMeanFactor = 4;

// Terms of all sums along the longest path of one gradient.
double sums_on_path(const Config& config, const dist::MeshExtents& extents);
// The relative error that one step's gradient may have; times kElementFactor or kMeanFactor it is a bound.
double relative_error(const Config& config, const dist::MeshExtents& extents);

// The larger of both, in `most`; what is no number stays.
inline void keep_larger(double& most, double value) {
  if (!(value <= most) && most == most) most = value;
}

double root_mean_square(const std::vector<float>& values);
// Of each element of a gradient, as said above; none is below `least`.
std::vector<double> magnitudes_of(const Trainer::NamedValues& gradient, double least);
double norm_of(const std::vector<Trainer::NamedValues>& tensors);

// The relative change of a gradient from that of the weights it is computed with. A bias or a shift counts against what
// it is added to: a product of its matrix with a vector of ones, or its norm's scale. Both lists name the same tensors.
double drift(const std::vector<Trainer::NamedValues>& a, const std::vector<Trainer::NamedValues>& b);

// What AdamW makes of gradients that are within bounds of each other, element by element. With m and v the weighted
// means of g and g^2, a step moves a weight by lr m / (sqrt(v) + eps). By the triangle inequality in the norm of the
// weights of v, and since |m| <= C sqrt(v) (Cauchy and Schwarz), bounds b_k on the g_k leave
//
//   min(2 C, (sum_k w_k b_k + C sqrt(sum_k w'_k b_k^2)) / (sqrt(v) + eps)) lr
//
// between two such steps: an element whose gradient is no more than error may go either way.
class AdamBounds {
 public:
  AdamBounds(const OptimizerConfig& config, std::size_t elements) : config_(config), bounds_(elements) {}
  // One step: its gradient and norm before clipping, the bound of each element, the relative bound of the norm, and the
  // weights after it.
  void add_step(double lr, double norm, double norm_error, std::vector<float> gradient,
                const std::vector<double>& bound, const std::vector<float>& weights);
  // Of the weights after the steps so far.
  const std::vector<double>& bounds() const { return bounds_; }

 private:
  struct Step {
    std::vector<float> gradient;  // clipped
    std::vector<double> bound;
  };
  OptimizerConfig config_;
  std::vector<Step> steps_;
  std::vector<double> bounds_;
};

}  // namespace lorashard::core
