#include "core/model.hpp"

namespace lorashard::core {

using kernels::fail;
using kernels::Failure;
using kernels::text;

dist::Share layers_of_part(Index layers, int part, int parts) {
  if (layers < parts) {
    fail(Failure::configuration, text("mesh.pipeline: found ", parts, " model parts (stages times chunks) for ", layers,
                                      " layers, expected at most one part a layer"));
  }
  return dist::even_share(layers, part, parts);
}

std::vector<TensorInfo> tensors_of_part(const ModelShape& shape, int part, int parts) {
  const dist::Share layers = layers_of_part(shape.layers, part, parts);
  const bool first = part == 0, last = part == parts - 1;
  std::vector<TensorInfo> here;
  for (TensorInfo& info : tensor_table(shape, layers.first, layers.count)) {
    if (info.home == Home::layer || (info.home == Home::first && first) ||
        (info.home == Home::last && last) || (info.home == Home::both_ends && (first || last))) {
      here.push_back(std::move(info));
    }
  }
  return here;
}

bool trains_up_to(const TrainingPlan& plan, const ModelShape& shape, int part, int parts) {
  if (part < 0) return false;
  if (plan.everything) return true;
  const dist::Share layers = layers_of_part(shape.layers, part, parts);
  for (const AdapterSpec& spec : plan.adapters) {
    if (spec.layer < layers.first + layers.count) return true;
  }
  for (int p = 0; p <= part; ++p) {
    for (const TensorInfo& info : tensors_of_part(shape, p, parts)) {
      if (plan.trains(info.name)) return true;
    }
  }
  return false;
}

ModelPart::ModelPart(const Context& context, Parameters& parameters, const TrainingPlan& plan, int part, int parts)
    : context_(context), input_gradient_(trains_up_to(plan, context.shape, part - 1, parts)) {
  bool below = input_gradient_;
  if (part == 0) {
    embedding_.emplace(context, parameters);
    below = embedding_->trains();
  }
  const dist::Share layers = layers_of_part(context.shape.layers, part, parts);
  first_layer_ = layers.first;
  if (family_of(context.shape).rotary) positions_ = std::make_unique<RotaryPositions>(context);
  blocks_.reserve(layers.count);
  for (Index layer = layers.first; layer < layers.first + layers.count; ++layer) {
    blocks_.emplace_back(context, parameters, layer, below, positions_.get());
    below = blocks_.back().has_backward();
  }
  if (part == parts - 1) {
    head_.emplace(context, parameters, below);
    below = below || head_->trains();
  }
  has_backward_ = below;
}

Activation ModelPart::run_blocks(Activation x, const Microbatch& microbatch, Saved* saved) const {
  if (embedding_) x = embedding_->forward(microbatch);
  if (saved) saved->blocks.resize(blocks_.size());
  kernels::AtPlace layer(context_.device.profile().place().layer, -1);
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    layer.move(first_layer_ + static_cast<Index>(i));
    x = blocks_[i].forward(std::move(x), microbatch, saved ? &saved->blocks[i] : nullptr);
  }
  return x;
}

void ModelPart::attach_adapters(Parameters& parameters) {
  for (Block& block : blocks_) block.attach_adapters(parameters);
}

Activation ModelPart::forward(Activation x, const Microbatch& microbatch, Saved* saved, Matrix loss_total) const {
  x = run_blocks(std::move(x), microbatch, saved);
  if (!head_) return x;
  Activation dx = head_->forward(std::move(x), microbatch, saved != nullptr, loss_total);
  if (saved) saved->head_gradient = std::move(dx);
  return {};
}

Activation ModelPart::backward(Activation dy, const Microbatch& microbatch, Saved saved, const LayerDone& done) const {
  if (head_) dy = std::move(saved.head_gradient);
  kernels::AtPlace layer(context_.device.profile().place().layer, -1);
  for (std::size_t i = blocks_.size(); i-- > 0;) {
    layer.move(first_layer_ + static_cast<Index>(i));
    if (!blocks_[i].has_backward()) return {};
    dy = blocks_[i].backward(std::move(dy), microbatch, std::move(saved.blocks[i]));
    done(first_layer_ + static_cast<Index>(i));
  }
  layer.move(-1);
  if (embedding_) {
    if (embedding_->trains()) embedding_->backward(dy, microbatch);
    return {};
  }
  return dy;
}

}  // namespace lorashard::core
