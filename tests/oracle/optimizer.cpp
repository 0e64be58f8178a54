#include "tests/oracle/optimizer.hpp"

#include <algorithm>
#include <cmath>

namespace lorashard::oracle {

double learning_rate(const Settings& s, Index step) {
  if (step < s.warmup) return s.peak_lr * (step + 1) / s.warmup;
  const double rest = s.steps - s.warmup;
  if (s.schedule == "cosine") return s.peak_lr * 0.5 * (1 + std::cos(M_PI * (step - s.warmup) / rest));
  if (s.schedule == "constant") return s.peak_lr;
  return s.peak_lr * (s.steps - step) / rest;
}

double AdamW::step(const std::vector<Item>& items) {
  double squares = 0;
  for (const Item& item : items) squares += norm(*item.gradient) * norm(*item.gradient);
  const double total = std::sqrt(squares);
  const double scale = settings_.clip > 0 ? std::min(1.0, settings_.clip / (total + 1e-6)) : 1.0;
  const double lr = learning_rate(settings_, step_++);
  const double bias1 = 1 - std::pow(settings_.beta1, step_), bias2 = 1 - std::pow(settings_.beta2, step_);
  for (const Item& item : items) {
    Moments& moments = moments_[item.name];
    if (moments.first.empty()) moments.first = moments.second = Array(item.weight->rows, item.weight->cols);
    for (std::size_t i = 0; i < item.weight->values.size(); ++i) {
      double &w = item.weight->values[i], &m = moments.first.values[i], &v = moments.second.values[i];
      const double g = scale * item.gradient->values[i];
      if (item.decay) w -= lr * settings_.weight_decay * w;
      m = settings_.beta1 * m + (1 - settings_.beta1) * g;
      v = settings_.beta2 * v + (1 - settings_.beta2) * g * g;
      w -= lr * (m / bias1) / (std::sqrt(v / bias2) + settings_.eps);
    }
  }
  return total;
}

}  // namespace lorashard::oracle
