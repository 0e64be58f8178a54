#include "core/parity_bounds.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/family.hpp"

namespace lorashard::core {
namespace {

using Tensors = std::vector<Trainer::NamedValues>;

const double kUnit = std::ldexp(1.0, -24);  // of fp32

double squares_of(const std::vector<float>& values) {
  double sum = 0;
  for (const double x : values) sum += x * x;
  return sum;
}

// Root mean square of the difference.
double apart(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - b[i];
    sum += d * d;
  }
  return std::sqrt(sum / static_cast<double>(std::max<std::size_t>(a.size(), 1)));
}

// What a change of `t` is to be measured against.
double weight_scale(const Trainer::NamedValues& t, const std::map<std::string, const Trainer::NamedValues*>& all) {
  const std::string bias = ".bias";
  if (!t.name.ends_with(bias)) return root_mean_square(t.values);
  const auto matrix = all.find(t.name.substr(0, t.name.size() - bias.size()) + ".weight");
  if (matrix == all.end()) return root_mean_square(t.values);
  const double inputs = matrix->second->rows > 1 ? static_cast<double>(matrix->second->cols) : 1;
  return root_mean_square(matrix->second->values) * std::sqrt(inputs);
}

}  // namespace

double sums_on_path(const Config& config, const dist::MeshExtents& extents) {
  const ModelShape& s = config.model.shape;
  const auto c = static_cast<double>(s.width), f = static_cast<double>(s.ffn), d = static_cast<double>(s.head_size());
  const auto keys = static_cast<double>(2 * s.kv_heads) * d, t = static_cast<double>(config.data.length);
  const double gate = family_of(s).gated ? f : 0;
  // Two norms of two sums each; qkv, scores and their mix, o; up (and gate) and down.
  const double forward = 4 * c + (c + d + t + c) + (c + f);
  // The same from the other end: dx of a product sums over its outputs; dq, dk, dv.
  const double backward = 4 * c + (f + gate + c) + (c + d + 2 * t + c + keys);
  // The last norm both ways, logits, softmax, and the head's dx.
  const double ends = 8 * c + c + 2 * static_cast<double>(s.vocab);
  const double rows = static_cast<double>(config.train.batch) * t + static_cast<double>(extents.ranks());
  const double reductions = 4.0 * static_cast<double>(s.layers) * extents.tensor;
  return static_cast<double>(s.layers) * (forward + backward) + ends + rows + reductions;
}

double relative_error(const Config& config, const dist::MeshExtents& extents) {
  // A rotary block turns queries and keys, and their gradients, in between; a gated one has one activation more each way.
  const double of_block = family_of(config.model.shape).rotary ? 24 : 18;
  const double roundings = of_block * static_cast<double>(config.model.shape.layers) + 4;
  double square = sums_on_path(config, extents) * kUnit * kUnit;
  if (config.train.precision == kernels::DType::bf16)
    square += roundings * std::ldexp(1.0, -18);
  else if (config.device.kind == kernels::DeviceKind::cuda && config.device.tf32)
    square += 2 * roundings * std::ldexp(1.0, -20);
  return std::sqrt(2 * square);
}

double root_mean_square(const std::vector<float>& values) {
  return values.empty() ? 0 : std::sqrt(squares_of(values) / static_cast<double>(values.size()));
}

std::vector<double> magnitudes_of(const Trainer::NamedValues& gradient, double least) {
  const auto rows = static_cast<std::size_t>(gradient.rows), cols = static_cast<std::size_t>(gradient.cols);
  std::vector<double> of_row(rows), of_col(cols), magnitudes(rows * cols);
  double all = 0;
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < cols; ++j) {
      const double x = gradient.values[i * cols + j], square = x * x;
      of_row[i] += square, of_col[j] += square, all += square;
    }
  // Root mean squares: r_i c_j / r = sqrt(R_i C_j / S) with the sums of squares R, C and S.
  const double mean = std::sqrt(all / static_cast<double>(std::max<std::size_t>(rows * cols, 1)));
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < cols; ++j) {
      const double product = all > 0 ? std::sqrt(of_row[i] * (of_col[j] / all)) : 0;
      const double own = std::abs(static_cast<double>(gradient.values[i * cols + j]));
      magnitudes[i * cols + j] = std::max({own, product, mean, least});
    }
  return magnitudes;
}

double norm_of(const Tensors& tensors) {
  double sum = 0;
  for (const Trainer::NamedValues& t : tensors) sum += squares_of(t.values);
  return std::sqrt(sum);
}

double drift(const Tensors& a, const Tensors& b) {
  std::map<std::string, const Trainer::NamedValues*> all;
  for (const Trainer::NamedValues& t : a) all[t.name] = &t;
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double distance = apart(a[i].values, b[i].values), scale = weight_scale(a[i], all);
    const double share = scale > 0 ? std::min(1.0, distance / scale) : 1;
    if (distance > 0) sum += share * share;
  }
  return 2 * std::sqrt(sum);
}

void AdamBounds::add_step(double lr, double norm, double norm_error, std::vector<float> gradient,
                          const std::vector<double>& bound, const std::vector<float>& weights) {
  const double scale = config_.clip > 0 && config_.clip < norm ? config_.clip / norm : 1;
  std::vector<double> clipped(bound.size());
  for (std::size_t i = 0; i < bound.size(); ++i) {
    clipped[i] = scale * (bound[i] + (scale < 1 ? norm_error * std::abs(gradient[i]) : 0));
    gradient[i] *= static_cast<float>(scale);
  }
  steps_.push_back({std::move(gradient), std::move(clipped)});

  // The weights of the two means, and C.
  const std::size_t count = steps_.size();
  std::vector<double> w(count), w2(count);
  double largest = 0;
  for (std::size_t k = 0; k < count; ++k) {
    const auto ago = static_cast<double>(count - 1 - k), t = static_cast<double>(count);
    w[k] = (1 - config_.beta1) * std::pow(config_.beta1, ago) / (1 - std::pow(config_.beta1, t));
    w2[k] = (1 - config_.beta2) * std::pow(config_.beta2, ago) / (1 - std::pow(config_.beta2, t));
    largest += w[k] * w[k] / w2[k];
  }
  largest = std::sqrt(largest);
  for (std::size_t i = 0; i < bounds_.size(); ++i) {
    double first = 0, second = 0, v = 0;
    for (std::size_t k = 0; k < count; ++k) {
      const double g = steps_[k].gradient[i], b = steps_[k].bound[i];
      first += w[k] * b, second += w2[k] * b * b, v += w2[k] * g * g;
    }
    const double moved = (first + largest * std::sqrt(second)) / (std::sqrt(v) + config_.eps);
    // AdamW's own arithmetic: some eight roundings of the step, and two of the weight (its decay, its sum).
    const double rounding = kUnit * (8 * lr * largest + 2 * std::abs(static_cast<double>(weights[i])));
    bounds_[i] += lr * std::min(2 * largest, moved) + 2 * rounding;
  }
}

}  // namespace lorashard::core
