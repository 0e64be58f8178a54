// A model that only runs forward: on every mesh of tensor x pipeline ranks, with adapters beside the base or without.
// Each data rank works by itself.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/adapter_cache.hpp"
#include "core/base_file.hpp"
#include "core/dataset.hpp"
#include "core/initial_adapters.hpp"
#include "core/key_value_cache.hpp"
#include "core/model.hpp"

namespace lorashard::core {

// What switching took on this rank so far, beside passes through the model.
struct SwitchCost {
  Index switches = 0, read = 0, passes = 0;  // read: from files, which comes before a switch and is not part of it
  double switch_s = 0, read_s = 0, pass_s = 0;
};

class Inference {
 public:
  // The base of config.model, and the adapters of config.adapter.init, if any. Adapters that it is told to use later
  // wait in at most `held_bytes` of host memory. Collective over the mesh; device and mesh must outlive it.
  Inference(const Config& config, kernels::Device& device, dist::Mesh& mesh, Index held_bytes = 0);

  // From now on with the adapters of this file, or with the base alone where it is empty. A file is read once, its
  // digests and its base's checked, as long as it stays in the cache; what changes on the device are A and B and
  // nothing else. Alike on all ranks of tensor and pipeline; no communication.
  void use_adapter(const std::string& path);
  const SwitchCost& switch_cost() const { return cost_; }
  const AdapterCache& held() const { return held_; }

  const ModelShape& shape() const { return context_.shape; }
  // Makes room for `sequences` of at most `capacity` tokens; all are empty.
  void reserve(Index sequences, Index capacity);
  // Sequence `sequence` is these tokens. Returns the logits (V) of what follows. Collective over tensor and pipeline,
  // as all below; the same on every rank.
  std::vector<float> prompt(Index sequence, std::span<const std::int32_t> ids);
  // One token more for every sequence. (sequences, V).
  std::vector<float> step(std::span<const std::int32_t> tokens);
  void reorder(std::span<const Index> from) { cache_->reorder(from); }
  // The cross-entropy of each position, (rows, length); 0 where nothing is scored.
  std::vector<float> losses(const Rows& rows, Index length);

 private:
  void attach(const TrainingPlan& plan);
  const HeldAdapter& read(const std::string& path);
  AdapterBase base_of_adapters() const;
  Activation through_blocks(const Microbatch& microbatch);
  std::vector<float> on_every_stage(Tensor made, Index rows, Index cols);
  std::vector<float> run(const Microbatch& microbatch, Index first_row, Index rows);

  Config config_;
  std::unique_ptr<BaseFile> base_;
  Context context_;
  std::vector<AdapterSpec> attached_;  // of the whole model
  std::string in_use_;                 // the adapter that use_adapter() put on the device
  AdapterCache held_;
  SwitchCost cost_;
  std::unique_ptr<Parameters> parameters_;
  std::unique_ptr<ModelPart> part_;
  std::optional<KeyValueCache> cache_;
};

}  // namespace lorashard::core
