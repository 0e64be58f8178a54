#include "tests/oracle/operations.hpp"

#include <algorithm>
#include <cmath>

namespace lorashard::oracle {
namespace {

constexpr std::int32_t kNotScored = -100;

struct Moments {
  double mean, scale;  // scale = 1 / sqrt(variance + eps)
};

Moments moments(const double* x, Index n, double eps) {
  double mean = 0, variance = 0;
  for (Index j = 0; j < n; ++j) mean += x[j] / n;
  for (Index j = 0; j < n; ++j) variance += (x[j] - mean) * (x[j] - mean) / n;
  return {mean, 1 / std::sqrt(variance + eps)};
}

double inverse_rms(const double* x, Index n, double eps) {
  double mean_square = 0;
  for (Index j = 0; j < n; ++j) mean_square += x[j] * x[j] / n;
  return 1 / std::sqrt(mean_square + eps);
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

Array linear(const Array& x, const Array& w, const Array& b) {
  Array y(x.rows, w.rows);
  for (Index n = 0; n < x.rows; ++n)
    for (Index o = 0; o < w.rows; ++o) {
      double sum = b.empty() ? 0 : b(0, o);
      for (Index i = 0; i < x.cols; ++i) sum += x(n, i) * w(o, i);
      y(n, o) = sum;
    }
  return y;
}

void linear_backward(const Array& x, const Array& w, const Array& dy, Array& dx, Array& dw, Array& db) {
  for (Index n = 0; n < x.rows; ++n)
    for (Index o = 0; o < w.rows; ++o) {
      const double g = dy(n, o);
      for (Index i = 0; i < x.cols; ++i) dx(n, i) += g * w(o, i);
      for (Index i = 0; i < x.cols; ++i) dw(o, i) += g * x(n, i);
      if (!db.empty()) db(0, o) += g;
    }
}

Array layer_norm(const Array& x, const Array& weight, const Array& bias, double eps) {
  Array y(x.rows, x.cols);
  for (Index n = 0; n < x.rows; ++n) {
    const auto [mean, scale] = moments(x.row(n), x.cols, eps);
    for (Index j = 0; j < x.cols; ++j) y(n, j) = (x(n, j) - mean) * scale * weight(0, j) + bias(0, j);
  }
  return y;
}

void layer_norm_backward(const Array& x, const Array& weight, double eps, const Array& dy, Array& dx, Array& dweight,
                         Array& dbias) {
  const Index c = x.cols;
  for (Index n = 0; n < x.rows; ++n) {
    const auto [mean, scale] = moments(x.row(n), c, eps);
    // With u the normalised row and g = dy * weight: dx = scale (g - mean(g) - u mean(g u)).
    double mean_g = 0, mean_gu = 0;
    for (Index j = 0; j < c; ++j) {
      const double u = (x(n, j) - mean) * scale, g = dy(n, j) * weight(0, j);
      mean_g += g / c;
      mean_gu += g * u / c;
      dweight(0, j) += dy(n, j) * u;
      dbias(0, j) += dy(n, j);
    }
    for (Index j = 0; j < c; ++j) {
      const double u = (x(n, j) - mean) * scale;
      dx(n, j) += scale * (dy(n, j) * weight(0, j) - mean_g - u * mean_gu);
    }
  }
}

Array rms_norm(const Array& x, const Array& weight, double eps) {
  const Index size = weight.cols;
  Array y(x.rows, x.cols);
  for (Index n = 0; n < x.rows; ++n)
    for (Index first = 0; first < x.cols; first += size) {
      const double scale = inverse_rms(x.row(n) + first, size, eps);
      for (Index j = 0; j < size; ++j) y(n, first + j) = x(n, first + j) * scale * weight(0, j);
    }
  return y;
}

void rms_norm_backward(const Array& x, const Array& weight, double eps, const Array& dy, Array& dx, Array& dweight) {
  const Index size = weight.cols;
  for (Index n = 0; n < x.rows; ++n)
    for (Index first = 0; first < x.cols; first += size) {
      const double scale = inverse_rms(x.row(n) + first, size, eps);
      // With u the normalised group and g = dy * weight: dx = scale (g - u mean(g u)).
      double mean_gu = 0;
      for (Index j = 0; j < size; ++j) {
        const double u = x(n, first + j) * scale;
        mean_gu += dy(n, first + j) * weight(0, j) * u / size;
        dweight(0, j) += dy(n, first + j) * u;
      }
      for (Index j = 0; j < size; ++j) {
        const double u = x(n, first + j) * scale;
        dx(n, first + j) += scale * (dy(n, first + j) * weight(0, j) - u * mean_gu);
      }
    }
}

Array gelu(const Array& x) {
  Array y = x;
  for (double& v : y.values) v = 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
  return y;
}

void gelu_backward(const Array& x, const Array& dy, Array& dx) {
  const double k = std::sqrt(2 / M_PI);
  for (std::size_t i = 0; i < x.values.size(); ++i) {
    const double v = x.values[i], t = std::tanh(k * (v + 0.044715 * v * v * v));
    const double slope = 0.5 * (1 + t) + 0.5 * v * (1 - t * t) * k * (1 + 3 * 0.044715 * v * v);
    dx.values[i] += dy.values[i] * slope;
  }
}

Array swiglu(const Array& x) {
  const Index ffn = x.cols / 2;
  Array y(x.rows, ffn);
  for (Index n = 0; n < x.rows; ++n)
    for (Index j = 0; j < ffn; ++j) y(n, j) = x(n, j) * sigmoid(x(n, j)) * x(n, ffn + j);
  return y;
}

void swiglu_backward(const Array& x, const Array& dy, Array& dx) {
  const Index ffn = x.cols / 2;
  for (Index n = 0; n < x.rows; ++n)
    for (Index j = 0; j < ffn; ++j) {
      const double gate = x(n, j), up = x(n, ffn + j), s = sigmoid(gate);
      dx(n, j) += dy(n, j) * up * (s + gate * s * (1 - s));
      dx(n, ffn + j) += dy(n, j) * gate * s;
    }
}

Array embedding(const std::vector<std::int32_t>& ids, Index length, const Array& token, const Array& position) {
  const Index n = static_cast<Index>(ids.size());
  Array x(n, token.cols);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < x.cols; ++j) x(i, j) = token(ids[i], j) + (position.empty() ? 0 : position(i % length, j));
  return x;
}

void embedding_backward(const std::vector<std::int32_t>& ids, Index length, const Array& dx, Array& dtoken,
                        Array& dposition) {
  for (Index i = 0; i < dx.rows; ++i)
    for (Index j = 0; j < dx.cols; ++j) {
      dtoken(ids[i], j) += dx(i, j);
      if (!dposition.empty()) dposition(i % length, j) += dx(i, j);
    }
}

double cross_entropy(const Array& logits, const std::vector<std::int32_t>& labels, double smoothing, Array* dlogits) {
  const Index vocab = logits.cols;
  double scored = 0, loss = 0;
  for (std::int32_t label : labels) scored += label != kNotScored;
  if (dlogits) *dlogits = Array(logits.rows, vocab);
  for (Index n = 0; n < logits.rows; ++n) {
    if (labels[n] == kNotScored) continue;
    const double* z = logits.row(n);
    const double largest = *std::max_element(z, z + vocab);
    double sum = 0;
    for (Index v = 0; v < vocab; ++v) sum += std::exp(z[v] - largest);
    for (Index v = 0; v < vocab; ++v) {
      const double log_p = z[v] - largest - std::log(sum);
      const double target = smoothing / vocab + (v == labels[n] ? 1 - smoothing : 0);
      loss -= target * log_p / scored;
      if (dlogits) (*dlogits)(n, v) = (std::exp(log_p) - target) / scored;
    }
  }
  return loss;
}

}  // namespace lorashard::oracle
