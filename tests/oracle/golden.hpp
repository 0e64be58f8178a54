// The reference runs of ../shared/golden in this program's names and orientation: weights (out, in), the fused c_attn
// as attention.qkv, loralib's stacked q and v rows as separate adapters; Llama's q, k, v and gate, up as fused rows,
// their adapters each by itself.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "tests/oracle/optimizer.hpp"
#include "tests/oracle/oracle.hpp"

namespace lorashard::oracle {

struct GoldenStep {
  double loss = 0, grad_norm = 0, lr = 0;
};

struct GoldenRun {
  std::string name, folder;  // "lora_all", ".../gpt2/lora_all"
  Settings settings;
  double label_smoothing = 0;
  Index batch = 0;
  bool full = false;
  std::string adapter_source;     // the PEFT directory or loralib file it starts from; empty for full
  std::vector<Adapter> adapters;  // before step 0; empty for full
  double loss_after = 0;  // of the first batch, after training, with the run's smoothing
  std::vector<GoldenStep> steps;
  std::map<std::string, Array> gradients_step1, final_values;
};

// $LORASHARD_SHARED/golden or ../shared/golden; nothing when there is none, and then tests skip.
std::optional<std::string> golden_folder();
inline constexpr const char* kNoGolden = "../shared/golden is not here (LORASHARD_SHARED names another place)";

Model read_golden_base(const std::string& base_folder);
// Batches of `rows` rows in file order, of all of rows.jsonl.
std::vector<Batch> read_golden_batches(const std::string& base_folder, Index rows);
GoldenRun read_golden_run(const std::string& folder);

// Tensors of a Hugging Face, PEFT or loralib file under this program's names. Throws std::runtime_error for a name that
// it does not know and for a fused weight of which a part is missing.
std::map<std::string, Array> translated(const std::map<std::string, Array>& tensors);

}  // namespace lorashard::oracle
