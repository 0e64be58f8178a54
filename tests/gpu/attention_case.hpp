// Attention's operands on both devices, and what the definition in doubles says of them.
#pragma once

#include "kernels/attention.hpp"
#include "tests/gpu/on_device.hpp"

namespace lorashard::kernels {

// Operands as a model holds them: q, k and v are column slices of one fused matrix with `gap` elements behind a row.
struct Case {
  AttentionShape s;
  Pair fused, out, log_sum, dout, dfused;

  Case(AttentionShape s, DType dtype, Index gap = 0, double scale = 1.0)
      : s(s),
        fused(dtype, s.rows(), width(), gap),
        out(dtype, s.rows(), s.heads * s.head_size, gap),
        log_sum(DType::f32, s.heads, s.rows(), gap),
        dout(dtype, s.rows(), s.heads * s.head_size, gap),
        dfused(dtype, s.rows(), width(), gap) {
    fused.normals(1, scale);
    dout.normals(2);
  }
  Index width() const { return (s.heads + 2 * s.kv_heads) * s.head_size; }
  Index first_key() const { return s.heads * s.head_size; }
  Index first_value() const { return (s.heads + s.kv_heads) * s.head_size; }

  Matrix q(Matrix m) const { return m.col_range(0, first_key()); }
  Matrix k(Matrix m) const { return m.col_range(first_key(), s.kv_heads * s.head_size); }
  Matrix v(Matrix m) const { return m.col_range(first_value(), s.kv_heads * s.head_size); }

  void forward(Device& device, bool with_log_sum = true) {
    const Matrix m = fused.on(device);
    attention(device,
              AttentionForward{s, q(m), k(m), v(m), out.on(device), with_log_sum ? log_sum.on(device) : Matrix()});
  }
  void backward(Device& device) {
    const Matrix m = fused.on(device), d = dfused.on(device);
    attention(device, AttentionBackward{s, q(m), k(m), v(m), out.on(device), log_sum.on(device), dout.on(device), q(d),
                                        k(d), v(d)});
  }
};

// What a case should give, in doubles straight from the definition, from the values as stored; beside each result the
// sum of the absolute values of its terms, which scales its rounding error.
struct Expected {
  Doubles out, log_sum, gradient, out_terms, gradient_terms;
  double score_terms = 0;  // the largest sum of |q k| / sqrt(D) of a pair

  explicit Expected(Case& c)
      : out(c.s.rows(), c.s.heads * c.s.head_size),
        log_sum(c.s.heads, c.s.rows()),
        gradient(c.s.rows(), c.width()),
        out_terms(out),
        gradient_terms(gradient),
        fused_(to_doubles(c.fused.host().view())),
        dout_(to_doubles(c.dout.host().view())) {
    for (Index h = 0; h < c.s.heads; ++h) {
      for (Index r = 0; r < c.s.rows(); ++r) row(c, h, r);
    }
  }

 private:
  struct Pairs {  // of one query with the keys that it sees
    std::vector<double> p, dp, dp_terms;
    double delta = 0, delta_terms = 0;
  };

  void row(const Case& c, Index h, Index r) {
    const AttentionShape& s = c.s;
    const Index size = s.head_size, g = (s.skew + h) / (s.group > 0 ? s.group : s.heads / s.kv_heads);
    const Index start = r / s.length * s.length, first = s.window > 0 ? std::max(start, r - s.window + 1) : start;
    const Index count = r - first + 1;
    const Index q0 = h * size, k0 = c.first_key() + g * size, v0 = c.first_value() + g * size;
    const double scale = 1.0 / std::sqrt(static_cast<double>(size));
    Pairs x{std::vector<double>(count), std::vector<double>(count), std::vector<double>(count)};
    probabilities(h, r, first, q0, k0, size, x.p);
    for (Index j = 0; j < count; ++j) {
      for (Index d = 0; d < size; ++d) {
        const double v = fused_(first + j, v0 + d), dout = dout_(r, q0 + d);
        add(out, out_terms, r, q0 + d, x.p[j] * v);
        add(gradient, gradient_terms, first + j, v0 + d, x.p[j] * dout);
        x.dp[j] += dout * v;
        x.dp_terms[j] += std::abs(dout * v);
      }
      x.delta += x.p[j] * x.dp[j];
      x.delta_terms += x.p[j] * x.dp_terms[j];
    }
    for (Index j = 0; j < count; ++j) {
      const double ds = x.p[j] * (x.dp[j] - x.delta) * scale, terms = x.p[j] * (x.dp_terms[j] + x.delta_terms) * scale;
      for (Index d = 0; d < size; ++d) {
        const double q = fused_(r, q0 + d), k = fused_(first + j, k0 + d);
        gradient(r, q0 + d) += ds * k, gradient_terms(r, q0 + d) += terms * std::abs(k);
        gradient(first + j, k0 + d) += ds * q, gradient_terms(first + j, k0 + d) += terms * std::abs(q);
      }
    }
  }

  void probabilities(Index h, Index r, Index first, Index q0, Index k0, Index size, std::vector<double>& p) {
    double highest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (std::size_t j = 0; j < p.size(); ++j) {
      double terms = 0;
      for (Index d = 0; d < size; ++d) {
        const double term = fused_(r, q0 + d) * fused_(first + static_cast<Index>(j), k0 + d) / std::sqrt(1.0 * size);
        p[j] += term;
        terms += std::abs(term);
      }
      highest = std::max(highest, p[j]);
      score_terms = std::max(score_terms, terms);
    }
    for (double& x : p) sum += x = std::exp(x - highest);
    for (double& x : p) x /= sum;
    log_sum(h, r) = highest + std::log(sum);
  }

  static void add(Doubles& to, Doubles& terms, Index r, Index c, double term) {
    to(r, c) += term;
    terms(r, c) += std::abs(term);
  }

  Doubles fused_, dout_;
};

// A score is a sum of D terms, scaled and shifted: D + 5 roundings of at most `score_terms` each. Through exponential
// and quotient that is twice as large a relative error of a probability, and each has 4 of its own. Sums over T keys,
// for dk and dv over the T queries of each head of the group, and over D values add as many.
inline double relative_bound(const AttentionShape& s, double score_terms) {
  const double of_probability = 2 * ((s.head_size + 5) * score_terms + 4 + s.length);
  const double of_sums = s.length * (1 + s.group_size()) + s.head_size;
  return (of_probability + of_sums) * kFloatEpsilon;
}

// In bf16 a probability, or the gradient of a score, is rounded once more before it is multiplied (one `stored`), delta
// is taken from the stored out (one, and that one's probabilities another), and each result is rounded when stored.
inline void expect_as_defined(Case& c, const Expected& expected) {
  const DType dtype = c.out.host().view().dtype;
  const double relative = relative_bound(c.s, expected.score_terms), stored = unit_roundoff(dtype), tiny = 1e-30;
  expect_close(
      c.out.from_cuda(), expected.out,
      [&](Index r, Index col) {
        return (relative + stored) * expected.out_terms(r, col) + stored * std::abs(expected.out(r, col)) + tiny;
      },
      "out");
  expect_close(c.log_sum.from_cuda(), expected.log_sum, relative * (1.0 + 2 * std::log(c.s.length + 1.0)), "log_sum");
  expect_close(
      c.dfused.from_cuda(), expected.gradient,
      [&](Index r, Index col) {
        return (relative + 3 * stored) * expected.gradient_terms(r, col) +
               stored * std::abs(expected.gradient(r, col)) + tiny;
      },
      "dq, dk, dv");
}

}  // namespace lorashard::kernels
