// A model that only runs forward: on every mesh of tensor x pipeline ranks, with adapters beside the base or without. Each
// data rank works by itself.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/base_file.hpp"
#include "core/dataset.hpp"
#include "core/key_value_cache.hpp"
#include "core/model.hpp"

namespace lorashard::core {

class Inference {
 public:
  // The base of config.model, and the adapters of config.adapter.init, if any. Collective over the mesh; device and mesh must
  // outlive it.
  Inference(const Config& config, kernels::Device& device, dist::Mesh& mesh);

  const ModelShape& shape() const { return context_.shape; }
  // Makes room for `sequences` of at most `capacity` tokens; all are empty.
  void reserve(Index sequences, Index capacity);
  // Sequence `sequence` is these tokens. Returns the logits (V) of what follows. Collective over tensor and pipeline, as all
  // below; the same on every rank.
  std::vector<float> prompt(Index sequence, std::span<const std::int32_t> ids);
  // One token more for every sequence. (sequences, V).
  std::vector<float> step(std::span<const std::int32_t> tokens);
  void reorder(std::span<const Index> from) { cache_->reorder(from); }
  // The cross-entropy of each position, (rows, length); 0 where nothing is scored.
  std::vector<float> losses(const Rows& rows, Index length);

 private:
  Activation through_blocks(const Microbatch& microbatch);
  std::vector<float> on_every_stage(Tensor made, Index rows, Index cols);
  std::vector<float> run(const Microbatch& microbatch, Index first_row, Index rows);

  std::unique_ptr<BaseFile> base_;
  Context context_;
  TrainingPlan plan_;
  std::unique_ptr<Parameters> parameters_;
  std::unique_ptr<ModelPart> part_;
  std::optional<KeyValueCache> cache_;
};

}  // namespace lorashard::core
