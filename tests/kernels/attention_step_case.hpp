// Operands of a step of generation, and what the definition in doubles says of them. `Operand`: Sample, or a Twin with
// the same values on a cuda device.
#pragma once

#include "kernels/attention.hpp"
#include "samples.hpp"

namespace lorashard::kernels {

struct StepTypes {
  DType q, keys, out;  // keys: and values
};

template <class Operand>
struct StepCase {
  AttentionShape s;
  StepTypes types;
  std::vector<std::int32_t> lengths;
  Operand q, keys, values, out;

  StepCase(AttentionShape s, StepTypes types, std::vector<std::int32_t> lengths, Index gap = 0)
      : s(s),
        types(types),
        lengths(std::move(lengths)),
        q(types.q, s.batch, s.heads * s.head_size, gap),
        keys(types.keys, s.rows(), s.kv_heads * s.head_size, gap),
        values(types.keys, s.rows(), s.kv_heads * s.head_size, gap),
        out(types.out, s.batch, s.heads * s.head_size, gap) {
    q.normals(1);
    keys.normals(2);
    values.normals(3);
  }
};

// In doubles, of a case's operands in host memory; `terms` are the sums of the absolute values of what is summed.
struct StepExpected {
  Doubles out, terms;
  double score_terms = 0;  // the largest sum of |q k| / sqrt(D) of a head and key

  StepExpected(const AttentionShape& s, const std::vector<std::int32_t>& lengths, const ConstMatrix& q,
               const ConstMatrix& keys, const ConstMatrix& values)
      : out(s.batch, s.heads * s.head_size), terms(out) {
    for (Index b = 0; b < s.batch; ++b) {
      for (Index h = 0; h < s.heads; ++h) {
        const Index group = s.group > 0 ? s.group : s.heads / s.kv_heads, col = (s.skew + h) / group * s.head_size;
        const Index first = s.window > 0 ? std::max<Index>(0, lengths[b] - s.window) : 0;
        std::vector<double> p(lengths[b]);
        double sum = 0;
        for (Index i = first; i < lengths[b]; ++i) {
          double score = 0, size = 0;
          for (Index d = 0; d < s.head_size; ++d) {
            const double term = element(q, b, h * s.head_size + d) * element(keys, b * s.length + i, col + d) /
                                std::sqrt(static_cast<double>(s.head_size));
            score += term;
            size += std::abs(term);
          }
          score_terms = std::max(score_terms, size);
          sum += p[i] = std::exp(score);
        }
        for (Index i = first; i < lengths[b]; ++i) {
          for (Index d = 0; d < s.head_size; ++d) {
            const double term = p[i] / sum * element(values, b * s.length + i, col + d);
            out(b, h * s.head_size + d) += term;
            terms(b, h * s.head_size + d) += std::abs(term);
          }
        }
      }
    }
  }
  // A score: D + 5 roundings of at most `score_terms`, which an exponential makes relative ones of a weight; the
  // weights' sum and the values' add a rounding a key each, and parts that are joined three more.
  double bound(const AttentionShape& s, DType dtype, Index r, Index c) const {
    const double roundings = 2 * ((static_cast<double>(s.head_size) + 5) * score_terms + 4) + 2.0 * s.length + 8;
    return roundings * kFloatEpsilon * terms(r, c) + unit_roundoff(dtype) * std::abs(out(r, c)) + 1e-30;
  }
};

}  // namespace lorashard::kernels
