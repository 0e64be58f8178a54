// One training step, taken on two devices from the same state: what may differ, and by how much.
#pragma once

#include <gtest/gtest.h>

#include <cmath>

#include "core/checkpoint.hpp"
#include "tests/golden/trial.hpp"

namespace lorashard::core {

using golden::NamedArrays;
using kernels::DType;
using kernels::text;

// What some steps end in.
struct Ends {
  std::vector<StepReport> reports;
  NamedArrays gradients;  // of the last step, before clipping
  NamedArrays saved;      // values and moments after it
};

// Everything in a checkpoint, moments under "<name>/first_moment". Without a message.
inline NamedArrays contents(const std::string& path) {
  const CheckpointReader reader(path);
  NamedArrays all;
  for (const CheckpointEntry& entry : reader.entries()) {
    std::vector<float> values(entry.rows * entry.cols);
    reader.read(entry.name, dist::AxisCut::whole(entry.rows), dist::AxisCut::whole(entry.cols),
                kernels::view(values.data(), entry.rows, entry.cols));
    oracle::Array array(entry.rows, entry.cols);
    array.values.assign(values.begin(), values.end());
    all.emplace(entry.name, std::move(array));
  }
  return all;
}

// What host and cuda may differ by, relative to the norm: twice what one of them may err by. As many roundings as
// tests/core/ranks_model.cpp counts along a path through the model; n of them, as good as independent, stay within
// 4 sqrt(n) times one (Higham and Mary 2019, theorem 2.4, with lambda = 4). In bf16 the adapters' products may be
// rounded too, two forward and two backward for each of a layer's four adapters.
inline double relative_bound(const Config& config) {
  const ModelShape& shape = config.model.shape;
  const double layers = static_cast<double>(shape.layers);
  if (config.train.precision == DType::bf16) return 2 * 4 * std::sqrt((18.0 + 16.0) * layers + 4) * std::ldexp(1.0, -9);
  const double c = static_cast<double>(shape.width), f = static_cast<double>(shape.ffn);
  const double d = c / static_cast<double>(shape.heads), t = static_cast<double>(config.data.length);
  const double layer = (c + d + t + c + c + f + 2 * c) + (f + c + t + d + 3 * c + 2 * c);
  const double ends = 2 * (c + static_cast<double>(shape.vocab)), tokens = static_cast<double>(config.train.batch) * t;
  const double path = layers * layer + ends + tokens;
  return 2 * 4 * std::sqrt(path) * std::ldexp(1.0, -24);
}

inline double norm_of(const NamedArrays& arrays) {
  double squares = 0;
  for (const auto& [name, array] : arrays) squares += norm(array) * norm(array);
  return std::sqrt(squares);
}

inline double clipped(const Config& config, const StepReport& report) {
  return std::min(1.0, config.optimizer.clip / (report.grad_norm + 1e-6));
}

// Moments and values of one tensor follow from its gradients. From the same m, v and w, a difference d between the
// clipped gradients moves m by (1 - b1) d and v by (1 - b2) (|g| + |g'|) d. m^ moves by less than d, and sqrt(v^) too,
// it being a norm of the gradients so far; |m^| is at most 1.02 sqrt(v^) over six steps (Cauchy and Schwarz on their
// weights), so m^ / (sqrt(v^) + eps) moves by at most 2.02 d / eps. Roundings come on top: four in each moment, four in
// w, and twelve on the way to lr times a quotient that is at most 1.02.
inline void expect_update(const Config& config, const std::string& name, const Ends& a, const Ends& b) {
  constexpr double u = 0x1p-24;
  const auto& ga = a.gradients.at(name).values;
  const auto& gb = b.gradients.at(name).values;
  const double scale_a = clipped(config, a.reports[0]), scale_b = clipped(config, b.reports[0]);
  const double lr = a.reports[0].lr, eps = config.optimizer.eps;
  const double rest1 = 1 - config.optimizer.beta1, rest2 = 1 - config.optimizer.beta2;
  double worst = 0;  // of all ratios of a difference to its bound
  const auto values = [&](const Ends& ends, const char* suffix) -> const auto& {
    return ends.saved.at(name + suffix).values;
  };
  for (std::size_t i = 0; i < ga.size(); ++i) {
    const double g = std::abs(scale_a * ga[i]), h = std::abs(scale_b * gb[i]);
    const double d = std::abs(scale_a * ga[i] - scale_b * gb[i]);
    const auto ratio = [&](const char* suffix, double bound) {
      const double difference = std::abs(values(a, suffix)[i] - values(b, suffix)[i]);
      if (difference > 0) worst = std::max(worst, difference / bound);
    };
    const double m = std::abs(values(a, "/first_moment")[i]), v = values(a, "/second_moment")[i];
    const double w = std::abs(values(a, "")[i]);
    // g itself is rounded when it is clipped; m may be small because its terms cancel.
    ratio("/first_moment", rest1 * d + 4 * u * (m + 2 * rest1 * (g + h)));
    ratio("/second_moment", rest2 * (g + h) * d + 4 * u * (v + rest2 * (g * g + h * h)));
    ratio("", 2.02 * lr * d / eps + 4 * u * w + 12 * u * lr * (1.02 + (g + h) / eps));
  }
  EXPECT_LE(worst, 1) << name << ": times its bound, of " << ga.size() << " values";
}

// A device's norms of layers are those of its own values and gradients, added up in double in another order.
inline void expect_layers(const Config& config, const Ends& ends) {
  const StepReport& report = ends.reports[0];
  const bool due = config.run.norms_every > 0 && (report.step + 1) % config.run.norms_every == 0;
  EXPECT_EQ(std::ssize(report.layers), due ? config.model.shape.layers : 0);
  for (const LayerNorms& layer : report.layers) {
    double a = 0, b = 0, gradients = 0;
    for (const auto& [name, gradient] : ends.gradients) {
      if (!name.starts_with(text("layers.", layer.layer, "."))) continue;
      const double value = norm(ends.saved.at(name));
      if (name.ends_with(".lora_a")) a += value * value;
      if (name.ends_with(".lora_b")) b += value * value;
      gradients += norm(gradient) * norm(gradient);
    }
    SCOPED_TRACE(text("layer ", layer.layer));
    EXPECT_NEAR(layer.a_norm, std::sqrt(a), 1e-12 * std::sqrt(a));
    EXPECT_NEAR(layer.b_norm, std::sqrt(b), 1e-12 * std::sqrt(b));
    EXPECT_NEAR(layer.grad_norm, std::sqrt(gradients), 1e-12 * std::sqrt(gradients));
  }
}

inline void expect_agreement(const Config& config, const Ends& host, const Ends& cuda) {
  const StepReport &a = host.reports[0], &b = cuda.reports[0];
  SCOPED_TRACE(text("step ", a.step));
  const double bound = relative_bound(config), norm_of_all = norm_of(host.gradients);
  EXPECT_EQ(b.step, a.step);
  EXPECT_EQ(b.lr, a.lr);
  EXPECT_EQ(b.tokens, a.tokens);
  EXPECT_NEAR(b.loss, a.loss, bound * a.loss);
  EXPECT_NEAR(b.grad_norm, a.grad_norm, bound * a.grad_norm);
  // Some 5000 values are added up in double, in another order.
  EXPECT_NEAR(b.grad_norm, norm_of(cuda.gradients), 1e-12 * b.grad_norm);
  expect_layers(config, host);
  expect_layers(config, cuda);
  ASSERT_EQ(cuda.gradients.size(), host.gradients.size());
  EXPECT_FALSE(host.gradients.empty());
  for (const auto& [name, array] : host.gradients) {
    EXPECT_LE(distance(array, cuda.gradients.at(name)), bound * std::max(norm(array), 0.01 * norm_of_all)) << name;
    expect_update(config, name, host, cuda);
  }
}

}  // namespace lorashard::core
