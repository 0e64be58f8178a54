// Which matrices train, and how: the plan of adapters and of dense tensors. The same on every rank, known before
// anything is allocated; parameters.hpp gives each rank its storage.
#pragma once

#include <string>
#include <vector>

#include "core/config.hpp"
#include "core/family.hpp"
#include "core/tensor_table.hpp"

namespace lorashard::core {

// One LoRA pair, Hu et al. 2021 (arXiv 2106.09685): A (R, in), B (out, R), y += alpha / R * B (A x).
struct AdapterSpec {
  Index layer = 0;
  Target target = Target::qkv;
  Index rank = 0;
  double alpha = 0;
  Index in = 0, out = 0;
  TargetPlace place = {};
  // The name of the linear layer's weight without its ending: "layers.3.attention.qkv".
  std::string linear() const;
  std::string name() const;    // "layers.3.attention.qkv.q"
  std::string a_name() const { return name() + ".lora_a"; }
  std::string b_name() const { return name() + ".lora_b"; }
  std::string alpha_name() const { return name() + ".alpha"; }
  float scale() const { return static_cast<float>(alpha / static_cast<double>(rank)); }
  bool operator==(const AdapterSpec&) const = default;
};

struct TrainingPlan {
  std::vector<AdapterSpec> adapters;  // by layer, then target
  std::vector<std::string> dense;     // tensors of the table that train themselves, in the table's order
  bool everything = false;            // dense is the whole table
  bool trains(const std::string& tensor) const;
};

// From the job: method, targets, layers, ranks. With adapter.init the file decides which pairs there are, and their ranks
// and scales (loralib's files do not know alpha: the job's is used). Throws Failure::configuration.
TrainingPlan make_plan(const Config& config);

// Throws Failure::configuration when `path`, as adapter.init, is a checkpoint with tensors that train whole: what it has
// learned is more than its adapters.
void expect_adapters_alone(const std::string& path);

// Trained values of the whole model, each counted once.
Index trained_parameters(const TrainingPlan& plan, const ModelShape& shape);

}  // namespace lorashard::core
