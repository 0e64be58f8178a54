#include "tests/oracle/attention.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace lorashard::oracle {
namespace {

// One query: its row, the columns of its head in q and of the head it meets in k and v, and the rows of the keys it
// sees, [first, row].
struct Query {
  Index row, first, q, kv;
};

// Calls visit(query) for every head of every token.
template <class Visit>
void for_each_query(const Array& q, const Array& k, const AttentionShape& shape, const Visit& visit) {
  const Index heads = q.cols / shape.head_size, kv_heads = k.cols / shape.head_size;
  if (kv_heads == 0 || heads % kv_heads != 0)
    throw std::invalid_argument(std::to_string(heads) + " heads over " + std::to_string(kv_heads) + " key/value heads");
  for (Index row = 0; row < q.rows; ++row) {
    const Index t = row % shape.length, seen = shape.window > 0 ? std::min(t + 1, shape.window) : t + 1;
    for (Index h = 0; h < heads; ++h)
      visit(Query{row, row - seen + 1, h * shape.head_size, h / (heads / kv_heads) * shape.head_size});
  }
}

// p[i] is the weight of the key in row query.first + i.
std::vector<double> attention_weights(const Array& q, const Array& k, const Query& query, Index head_size) {
  std::vector<double> p(query.row - query.first + 1);
  double largest = -HUGE_VAL, sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    double dot = 0;
    for (Index d = 0; d < head_size; ++d) dot += q(query.row, query.q + d) * k(query.first + i, query.kv + d);
    p[i] = dot / std::sqrt(static_cast<double>(head_size));
    largest = std::max(largest, p[i]);
  }
  for (double& x : p) sum += x = std::exp(x - largest);
  for (double& x : p) x /= sum;
  return p;
}

// y of every pair (a, b) of x: (a cos - b sin, a sin + b cos) times the magnitude, at angles of the given sign.
void add_turned(const Rotary& positions, Index length, double sign, const Array& x, Array& y) {
  const Index pairs = static_cast<Index>(positions.frequencies.size()), head_size = 2 * pairs;
  if (pairs == 0 || x.cols % head_size != 0)
    throw std::invalid_argument(std::to_string(pairs) + " frequencies for heads in " + std::to_string(x.cols) +
                                " columns");
  for (Index n = 0; n < x.rows; ++n)
    for (Index head = 0; head < x.cols; head += head_size)
      for (Index i = 0; i < pairs; ++i) {
        const double angle = sign * (n % length) * positions.frequencies[i];
        const double c = positions.magnitude * std::cos(angle), s = positions.magnitude * std::sin(angle);
        const Index a = head + (positions.neighbours ? 2 * i : i), b = positions.neighbours ? a + 1 : a + pairs;
        y(n, a) += c * x(n, a) - s * x(n, b);
        y(n, b) += s * x(n, a) + c * x(n, b);
      }
}

}  // namespace

Array attention(const Array& q, const Array& k, const Array& v, const AttentionShape& shape) {
  Array out(q.rows, q.cols);
  for_each_query(q, k, shape, [&](const Query& query) {
    const std::vector<double> p = attention_weights(q, k, query, shape.head_size);
    for (std::size_t i = 0; i < p.size(); ++i)
      for (Index d = 0; d < shape.head_size; ++d)
        out(query.row, query.q + d) += p[i] * v(query.first + i, query.kv + d);
  });
  return out;
}

// v directly, q and k through the softmax.
void attention_backward(const Array& q, const Array& k, const Array& v, const AttentionShape& shape, const Array& dout,
                        Array& dq, Array& dk, Array& dv) {
  for_each_query(q, k, shape, [&](const Query& query) {
    const std::vector<double> p = attention_weights(q, k, query, shape.head_size);
    std::vector<double> dp(p.size());
    double mean = 0;
    for (std::size_t i = 0; i < p.size(); ++i) {
      for (Index d = 0; d < shape.head_size; ++d) {
        const double g = dout(query.row, query.q + d);
        dp[i] += g * v(query.first + i, query.kv + d);
        dv(query.first + i, query.kv + d) += p[i] * g;
      }
      mean += p[i] * dp[i];
    }
    for (std::size_t i = 0; i < p.size(); ++i) {
      const double dscore = p[i] * (dp[i] - mean) / std::sqrt(static_cast<double>(shape.head_size));
      for (Index d = 0; d < shape.head_size; ++d) {
        dq(query.row, query.q + d) += dscore * k(query.first + i, query.kv + d);
        dk(query.first + i, query.kv + d) += dscore * q(query.row, query.q + d);
      }
    }
  });
}

std::vector<double> rotary_frequencies(double theta, Index head_size) {
  std::vector<double> frequencies(head_size / 2);
  for (Index i = 0; i < head_size / 2; ++i) frequencies[i] = std::pow(theta, -2.0 * i / head_size);
  return frequencies;
}

Array rotary(const Array& x, const Rotary& positions, Index length) {
  Array y(x.rows, x.cols);
  add_turned(positions, length, 1, x, y);
  return y;
}

// The transpose of a turn is the turn back.
void rotary_backward(const Rotary& positions, Index length, const Array& dy, Array& dx) {
  add_turned(positions, length, -1, dy, dx);
}

}  // namespace lorashard::oracle
