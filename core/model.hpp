// The model parts of one rank. A pipeline of S stages with c chunks each has S c parts; part p lies on stage p mod S.
// Layers are spread evenly over parts; the embedding is on the first, final norm and head on the last.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "core/block.hpp"
#include "core/ends.hpp"

namespace lorashard::core {

// What part `part` of `parts` consists of. Throws Failure::configuration when there are fewer layers than parts.
dist::Share layers_of_part(Index layers, int part, int parts);
std::vector<TensorInfo> tensors_of_part(const ModelShape& shape, int part, int parts);

// True when something in the parts up to and including `part` trains: such a part has a backward pass.
bool trains_up_to(const TrainingPlan& plan, const ModelShape& shape, int part, int parts);

class ModelPart {
 public:
  ModelPart(const Context& context, Parameters& parameters, const TrainingPlan& plan, int part, int parts);

  bool first() const { return embedding_.has_value(); }
  bool last() const { return head_.has_value(); }
  bool has_backward() const { return has_backward_; }
  bool sends_gradient() const { return input_gradient_; }  // to the part below

  // What waits for a microbatch's backward pass.
  struct Saved {
    std::vector<BlockSaved> blocks;
    Activation head_gradient;
  };
  // `x` is none on the first part. Returns the part's output, none on the last, which adds to `loss_total` (1,1) f64
  // instead. `saved` null: evaluation.
  Activation forward(Activation x, const Microbatch& microbatch, Saved* saved, Matrix loss_total) const;
  // The part of forward before the head: `x` as there.
  Activation run_blocks(Activation x, const Microbatch& microbatch, Saved* saved) const;
  // Takes the pairs that the parameters have now, for forward passes alone.
  void attach_adapters(Parameters& parameters);
  const Head& head() const { return *head_; }  // of the last part
  Index first_layer() const { return first_layer_; }
  Index layer_count() const { return static_cast<Index>(blocks_.size()); }
  // Told of each layer whose gradients of a microbatch are queued, from the top down.
  using LayerDone = std::function<void(Index layer)>;
  // `dy` is none on the last part. Returns the gradient of the part's input, none unless sends_gradient().
  Activation backward(Activation dy, const Microbatch& microbatch, Saved saved, const LayerDone& done) const;

 private:
  const Context& context_;
  bool input_gradient_, has_backward_;
  Index first_layer_ = 0;
  std::optional<Embedding> embedding_;
  std::unique_ptr<RotaryPositions> positions_;  // its blocks point to it
  std::vector<Block> blocks_;
  std::optional<Head> head_;
};

}  // namespace lorashard::core
