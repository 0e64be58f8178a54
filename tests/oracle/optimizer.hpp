// AdamW with decoupled decay, clipping by the global norm and the learning rate of a step, in double.
#pragma once

#include <map>
#include <string>

#include "tests/oracle/array.hpp"

namespace lorashard::oracle {

struct Settings {
  double peak_lr = 0, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0, clip = 0;  // clip 0: off
  Index warmup = 0, steps = 0;
  std::string schedule = "linear";  // or cosine, constant
};

// Linear from 0 over `warmup` steps (step 0 has peak / warmup), then the schedule, which reaches 0 at `steps`.
double learning_rate(const Settings& settings, Index step);

class AdamW {
 public:
  explicit AdamW(const Settings& settings) : settings_(settings) {}
  struct Item {
    std::string name;
    Array* weight;
    const Array* gradient;
    bool decay = true;
  };
  // One step on all items, the same ones in every step; returns the gradients' norm before clipping.
  double step(const std::vector<Item>& items);

 private:
  struct Moments {
    Array first, second;
  };
  Settings settings_;
  Index step_ = 0;
  std::map<std::string, Moments> moments_;
};

}  // namespace lorashard::oracle
