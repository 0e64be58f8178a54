// Adapters that somebody else made, read whole (they are small and every rank holds them): a PEFT directory, or a
// loralib state dict as a .safetensors file. Checkpoints of this program are read by checkpoint.hpp.
#pragma once

#include <string>
#include <vector>

#include "core/config.hpp"

namespace lorashard::core {

// One adapter pair: A (rank, in), B (out, rank) row-major, in this program's (out, in) orientation.
struct AdapterPair {
  Index layer = 0;
  Target target = Target::qkv;
  Index rank = 0;
  double alpha = 0;  // scale is alpha / rank; 0: the file does not say (loralib), the job does
  Index in = 0, out = 0;
  std::vector<float> a, b;
};

// The digest (hex) of the base that a foreign adapter says it belongs to; empty where it does not. What this program
// exports does, others do not. Throws Failure::configuration when its files cannot be read.
std::string stated_base(const std::string& path);

// True when `path` is a PEFT directory or a .safetensors file (so not a checkpoint).
bool is_foreign_adapter(const std::string& path);

// PEFT: adapter_config.json (peft_type LORA, r, lora_alpha, rank_pattern, alpha_pattern, fan_in_fan_out, bias none;
// what this program does not do - DoRA, rslora's scale is honoured, modules_to_save, ... - is refused by name) and
// adapter_model.safetensors with "...h.N.attn.c_attn.lora_A.weight" (r, in) and "lora_B.weight" (out, r); modules of
// other families as foreign_names.hpp has them.
// A module that the configuration's targets name and that has no tensors is refused, and the other way round; so is a
// tensor that differs from its digest, where the file has digests (safetensors.hpp).
// loralib: "h.N.attn.c_attn.lora_A/B" holds q's rows and then v's; A (2r, in), B (2C, r) become separate q and v pairs.
// Sorted by (layer, target). Throws Failure::configuration naming file, tensor, found and expected.
std::vector<AdapterPair> read_adapter(const std::string& path, const ModelShape& shape);

}  // namespace lorashard::core
