// Causal attention and rotary positions, with their gradients, in double. Letters: N tokens (the rows of a batch, each
// of T, one after the other), H query heads, G key/value heads, D head size; heads lie side by side, head h in columns
// [h D, h D + D). Gradients are added to what is there.
#pragma once

#include <vector>

#include "tests/oracle/array.hpp"

namespace lorashard::oracle {

struct AttentionShape {
  Index length = 0, head_size = 0;  // T, D
  Index window = 0;                 // a query at t sees keys t - window < s <= t; 0: all s <= t
};

// q (N,H D), k and v (N,G D); out (N,H D) = softmax(q k^T / sqrt(D)) v over the keys that a query sees. Query head h
// meets key/value head h / (H / G) (Ainslie et al. 2023, arXiv 2305.13245). Throws std::invalid_argument where G does
// not divide H.
Array attention(const Array& q, const Array& k, const Array& v, const AttentionShape& shape);
void attention_backward(const Array& q, const Array& k, const Array& v, const AttentionShape& shape, const Array& dout,
                        Array& dq, Array& dk, Array& dv);

// Pair i of a head at position t is turned by the angle t frequencies[i] and multiplied by magnitude (Su et al. 2021,
// arXiv 2104.09864, equation 34). A pair is columns (i, i + D/2) of the head, or the neighbours (2i, 2i + 1).
struct Rotary {
  std::vector<double> frequencies;  // (D/2)
  double magnitude = 1;
  bool neighbours = false;
};
// theta^(-2i/D) for every pair i.
std::vector<double> rotary_frequencies(double theta, Index head_size);

// x (N,n D), of rows of `length` tokens.
Array rotary(const Array& x, const Rotary& positions, Index length);
void rotary_backward(const Rotary& positions, Index length, const Array& dy, Array& dx);

}  // namespace lorashard::oracle
