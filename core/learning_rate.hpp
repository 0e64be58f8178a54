// The learning rate of a step: warm-up from 0 (step 0 has lr / warmup), then the schedule, reaching 0 at `steps`.
#pragma once

#include <cmath>

#include "core/config.hpp"

namespace lorashard::core {

inline double learning_rate(const OptimizerConfig& config, Index step, Index steps) {
  const double k = static_cast<double>(step), n = static_cast<double>(steps), w = static_cast<double>(config.warmup);
  if (k < w) return config.lr * (k + 1) / w;
  switch (config.schedule) {
    case LearningRate::constant: return config.lr;
    case LearningRate::linear: return config.lr * (n - k) / (n - w);
    case LearningRate::cosine: return config.lr * 0.5 * (1 + std::cos(M_PI * (k - w) / (n - w)));
  }
  return config.lr;
}

}  // namespace lorashard::core
