// What tells the families of models apart. One block (block.hpp) is put together from these, one table of tensors
// (tensor_table.cpp) follows them; foreign_names.cpp has what others call the tensors.
#pragma once

#include <string>
#include <vector>

#include "core/config.hpp"

namespace lorashard::core {

struct Family {
  const char* name;
  bool rms_norm;      // else LayerNorm, with a bias
  bool rotary;        // else a learned table of positions is added to the embedding
  bool gated;         // down(silu(gate x) * up x), else down(gelu(up x))
  bool linear_biases;  // of every linear layer
  // What adapter.targets = all stands for, and what an adapter may sit on besides.
  std::vector<Target> targets, further_targets;
};

// gpt2: Radford et al. 2019. llama: Touvron et al. 2023 (arXiv 2302.13971), and what has its shape: Llama 2 and 3, Mistral,
// Qwen 2 and 3. Throws Failure::configuration naming model.family, found and expected.
const Family& family_of(const std::string& name);
inline const Family& family_of(const ModelShape& shape) { return family_of(shape.family); }

// The linear layer that a target sits on ("attention.qkv"), and which of its segments: -1 is all of them.
struct TargetPlace {
  std::string linear;
  int segment = -1;
  bool operator==(const TargetPlace&) const = default;
};
TargetPlace place_of(const Family& family, Target target);

}  // namespace lorashard::core
