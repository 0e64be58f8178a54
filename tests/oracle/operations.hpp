// The operations of the transformers and their gradients, in double, as the formula says it: no tiling, no fusing,
// nothing shared with kernels/. Attention and rotary positions: attention.hpp. Letters: N tokens (the rows of a batch,
// each of T, one after the other), C width, F feed-forward width. Gradients of inputs and weights are added to what is
// there.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/oracle/array.hpp"

namespace lorashard::oracle {

// y (N,out) = x (N,in) w^T + b; w is (out,in), b (1,out) or empty.
Array linear(const Array& x, const Array& w, const Array& b);
// dx += dy w; dw += dy^T x; db += column sums of dy (unless db is empty).
void linear_backward(const Array& x, const Array& w, const Array& dy, Array& dx, Array& dw, Array& db);

// y = (x - mean) / sqrt(variance + eps) * weight + bias, per row; variance without Bessel's correction.
Array layer_norm(const Array& x, const Array& weight, const Array& bias, double eps);
void layer_norm_backward(const Array& x, const Array& weight, double eps, const Array& dy, Array& dx, Array& dweight,
                         Array& dbias);

// y = x / sqrt(mean of x^2 + eps) * weight, over each group of as many columns as `weight` (1,n) has: a whole row, or
// the heads side by side. Zhang and Sennrich 2019, arXiv 1910.07467, equation 4.
Array rms_norm(const Array& x, const Array& weight, double eps);
void rms_norm_backward(const Array& x, const Array& weight, double eps, const Array& dy, Array& dx, Array& dweight);

// The tanh form, Hendrycks and Gimpel 2016.
Array gelu(const Array& x);
void gelu_backward(const Array& x, const Array& dy, Array& dx);

// x (N,2F): gate, then up. y (N,F) = silu(gate) * up, silu(g) = g / (1 + e^-g). Shazeer 2020, arXiv 2002.05202,
// equation 6.
Array swiglu(const Array& x);
void swiglu_backward(const Array& x, const Array& dy, Array& dx);

// x (N,C) = token[id] + position[n mod T]; without positions where `position` is empty.
Array embedding(const std::vector<std::int32_t>& ids, Index length, const Array& token, const Array& position);
void embedding_backward(const std::vector<std::int32_t>& ids, Index length, const Array& dx, Array& dtoken,
                        Array& dposition);

// Mean over the rows whose label is not -100 of the cross-entropy with target 1 - e on the label plus e / V everywhere.
// dlogits, when not null, becomes its gradient.
double cross_entropy(const Array& logits, const std::vector<std::int32_t>& labels, double smoothing, Array* dlogits);

}  // namespace lorashard::oracle
