// Attention's operands on the host, and what the definition in doubles says of them.
#pragma once

#include "kernels/attention.hpp"
#include "samples.hpp"

namespace lorashard::kernels {

// Operands as a model holds them: q, k and v are column slices of one fused matrix with a gap behind it.
struct Case {
  AttentionShape s;
  Sample fused, out, log_sum, dout, dfused;

  Case(AttentionShape s, DType dtype, double scale = 1.0)
      : s(s),
        fused(dtype, s.rows(), (s.heads + 2 * s.kv_heads) * s.head_size, 3),
        out(dtype, s.rows(), s.heads * s.head_size, 5),
        log_sum(DType::f32, s.heads, s.rows()),
        dout(dtype, s.rows(), s.heads * s.head_size),
        dfused(dtype, s.rows(), (s.heads + 2 * s.kv_heads) * s.head_size) {
    fused.normals(1, scale);
    dout.normals(2);
  }

  template <class M>
  M q(M m) const {
    return m.col_range(0, s.heads * s.head_size);
  }
  template <class M>
  M k(M m) const {
    return m.col_range(s.heads * s.head_size, s.kv_heads * s.head_size);
  }
  template <class M>
  M v(M m) const {
    return m.col_range((s.heads + s.kv_heads) * s.head_size, s.kv_heads * s.head_size);
  }

  void forward(Device& device) {
    const Matrix m = fused;
    attention(device, AttentionForward{s, q(m), k(m), v(m), out, log_sum});
  }
  void backward(Device& device) {
    const Matrix m = fused, d = dfused;
    attention(device, AttentionBackward{s, q(m), k(m), v(m), out, log_sum, dout, q(d), k(d), v(d)});
  }
};

// What the case should give, in doubles straight from the definition, from the values as stored; and beside each
// result the sum of the absolute values of its terms, which scales its rounding error.
struct Expected {
  Doubles out, log_sum, gradient, out_terms, gradient_terms;
  double score_terms = 0;  // the largest sum of |q k| / sqrt(D) of a pair

  explicit Expected(const Case& c)
      : out(c.s.rows(), c.s.heads * c.s.head_size),
        log_sum(c.s.heads, c.s.rows()),
        gradient(c.s.rows(), (c.s.heads + 2 * c.s.kv_heads) * c.s.head_size),
        out_terms(out),
        gradient_terms(gradient) {
    for (Index b = 0; b < c.s.batch; ++b) {
      for (Index h = 0; h < c.s.heads; ++h) {
        for (Index t = 0; t < c.s.length; ++t) row(c, b, h, t);
      }
    }
  }

 private:
  void row(const Case& c, Index b, Index h, Index t) {
    const AttentionShape& s = c.s;
    const Index group = s.group > 0 ? s.group : s.heads / s.kv_heads, g = (s.skew + h) / group;
    const Index size = s.head_size, r = b * s.length + t, q0 = h * size;
    const Index k0 = (s.heads + g) * size, v0 = (s.heads + s.kv_heads + g) * size;
    const double scale = 1.0 / std::sqrt(static_cast<double>(size));
    std::vector<double> score(t + 1), p(t + 1), dp(t + 1), dp_terms(t + 1);
    const Index first = s.window > 0 ? std::max<Index>(0, t - s.window + 1) : 0;
    double highest = -std::numeric_limits<double>::infinity(), sum = 0, delta = 0, delta_terms = 0;
    for (Index j = first; j <= t; ++j) {
      double terms = 0;
      for (Index d = 0; d < size; ++d) {
        const double term = scale * c.fused(r, q0 + d) * c.fused(b * s.length + j, k0 + d);
        score[j] += term;
        terms += std::abs(term);
      }
      highest = std::max(highest, score[j]);
      score_terms = std::max(score_terms, terms);
    }
    for (Index j = first; j <= t; ++j) sum += p[j] = std::exp(score[j] - highest);
    log_sum(h, r) = highest + std::log(sum);
    for (Index j = first; j <= t; ++j) {
      const Index other = b * s.length + j;
      p[j] /= sum;
      for (Index d = 0; d < size; ++d) {
        const double v = c.fused(other, v0 + d), dout = c.dout(r, q0 + d);
        out(r, q0 + d) += p[j] * v;
        out_terms(r, q0 + d) += p[j] * std::abs(v);
        gradient(other, v0 + d) += p[j] * dout;
        gradient_terms(other, v0 + d) += p[j] * std::abs(dout);
        dp[j] += dout * v;
        dp_terms[j] += std::abs(dout * v);
      }
      delta += p[j] * dp[j];
      delta_terms += p[j] * dp_terms[j];
    }
    for (Index j = first; j <= t; ++j) {
      const Index other = b * s.length + j;
      const double ds = p[j] * (dp[j] - delta) * scale, terms = p[j] * (dp_terms[j] + delta_terms) * scale;
      for (Index d = 0; d < size; ++d) {
        gradient(r, q0 + d) += ds * c.fused(other, k0 + d);
        gradient(other, k0 + d) += ds * c.fused(r, q0 + d);
        gradient_terms(r, q0 + d) += terms * std::abs(c.fused(other, k0 + d));
        gradient_terms(other, k0 + d) += terms * std::abs(c.fused(r, q0 + d));
      }
    }
  }
};

// A score is a sum of D terms, scaled and shifted: D + 5 roundings of at most `score_terms` each. Through exponential
// and quotient that is twice as large a relative error of a probability, and each has 4 of its own. Sums over T keys,
// for dk and dv over the T queries of each head of the group, and over D values add as many.
inline double relative_bound(const AttentionShape& s, double score_terms) {
  const double of_probability = 2 * ((s.head_size + 5) * score_terms + 4 + s.length);
  const double of_sums = s.length * (1 + s.group_size()) + s.head_size;
  return (of_probability + of_sums) * kFloatEpsilon;
}

// Forward and backward of a case on the host are what the definition says.
inline void expect_as_defined(AttentionShape shape, DType dtype) {
  SCOPED_TRACE(text("B ", shape.batch, " T ", shape.length, " H ", shape.heads, " G ", shape.kv_heads, " D ",
                    shape.head_size, " group ", shape.group, " skew ", shape.skew, " window ", shape.window, " ",
                    name(dtype)));
  Case c(shape, dtype);
  const auto device = make_host_device(2);
  c.forward(*device);
  c.backward(*device);
  const Expected expected(c);
  const double relative = relative_bound(shape, expected.score_terms), stored = unit_roundoff(dtype), tiny = 1e-30;
  expect_close(
      c.out.view(), expected.out,
      [&](Index r, Index col) {
        return relative * expected.out_terms(r, col) + stored * std::abs(expected.out(r, col)) + tiny;
      },
      "out");
  expect_close(c.log_sum.view(), expected.log_sum, relative * (1.0 + 2 * std::log(shape.length + 1.0)), "log_sum");
  // delta is taken from the stored out, so its rounding reaches every score gradient.
  expect_close(
      c.dfused.view(), expected.gradient,
      [&](Index r, Index col) {
        return (relative + 2 * stored) * expected.gradient_terms(r, col) +
               stored * std::abs(expected.gradient(r, col)) + tiny;
      },
      "dq, dk, dv");
}

}  // namespace lorashard::kernels
