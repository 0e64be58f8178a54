#include "core/pipeline.hpp"

namespace lorashard::core {

using dist::ActionKind;

Pipeline::Pipeline(const Context& context, Parameters& parameters, const TrainingPlan& plan, const MeshConfig& mesh)
    : context_(context) {
  shape_.kind = mesh.schedule;
  shape_.stages = context.mesh.extents().pipeline;
  shape_.chunks = mesh.chunks;
  parts_.reserve(shape_.chunks);
  for (int chunk = 0; chunk < shape_.chunks; ++chunk) {
    parts_.emplace_back(context, parameters, plan, part_of(chunk), shape_.stages * shape_.chunks);
  }
}

int Pipeline::part_of(int chunk) const { return chunk * shape_.stages + context_.mesh.point().pipeline; }

double Pipeline::train(std::span<const Microbatch> microbatches) {
  shape_.microbatches = static_cast<int>(microbatches.size());
  loss_sum_ = 0;
  for (const dist::Action& action : dist::make_schedule(shape_, context_.mesh.point().pipeline)) {
    run(action, microbatches[action.microbatch]);
  }
  finish_sends();
  return loss_sum_;
}

void Pipeline::run(const dist::Action& action, const Microbatch& microbatch) {
  const ModelPart& part = parts_[action.chunk];
  const int index = part_of(action.chunk);
  const auto key = std::pair(action.chunk, action.microbatch);
  switch (action.kind) {
    case ActionKind::receive_forward:
      in_ = receive(Direction::forward, microbatch, action.microbatch, index);
      break;
    case ActionKind::forward:
      out_ = part.forward(std::move(in_), microbatch, &saved_[key], loss_sum_);
      break;
    case ActionKind::send_forward:
      send(Direction::forward, std::move(out_.data), action.microbatch, index + 1);
      break;
    case ActionKind::receive_backward:
      if (part.has_backward()) in_ = receive(Direction::backward, microbatch, action.microbatch, index);
      break;
    case ActionKind::backward: {
      ModelPart::Saved saved = std::move(saved_[key]);
      saved_.erase(key);
      if (part.has_backward()) out_ = part.backward(std::move(in_), microbatch, std::move(saved));
      break;
    }
    case ActionKind::send_backward:
      if (part.sends_gradient()) send(Direction::backward, std::move(out_.data), action.microbatch, index - 1);
      break;
  }
}

double Pipeline::evaluate(const Microbatch& microbatch) {
  loss_sum_ = 0;
  for (int chunk = 0; chunk < shape_.chunks; ++chunk) {
    const ModelPart& part = parts_[chunk];
    Activation x;
    if (!part.first()) x = receive(Direction::forward, microbatch, 0, part_of(chunk));
    x = part.forward(std::move(x), microbatch, nullptr, loss_sum_);
    if (!part.last()) send(Direction::forward, std::move(x.data), 0, part_of(chunk) + 1);
  }
  finish_sends();
  return loss_sum_;
}

// Messages are named by the part that they enter; 0 is left to other traffic.
static int tag_of(int microbatch, int parts, int part, bool forward) {
  return 1 + 2 * (microbatch * parts + part) + (forward ? 0 : 1);
}

void Pipeline::send(Direction direction, Tensor data, int microbatch, int part) {
  Held& held = held_[static_cast<int>(direction)];
  held.pending.reset();
  held.data = std::move(data);
  const int parts = shape_.stages * shape_.chunks;
  held.pending = context_.mesh.pipeline().send(held.data, part % shape_.stages,
                                               tag_of(microbatch, parts, part, direction == Direction::forward));
}

Activation Pipeline::receive(Direction direction, const Microbatch& microbatch, int index, int part) {
  Tensor data(context_.device, Category::activation, context_.activation, row_part(context_, microbatch.rows()).buffer,
              context_.shape.width);
  const int parts = shape_.stages * shape_.chunks;
  const int from = direction == Direction::forward ? part - 1 : part + 1;
  context_.mesh.pipeline().receive(data, from % shape_.stages,
                                   tag_of(index, parts, part, direction == Direction::forward));
  return {std::move(data), context_.splits_rows() ? dist::ParallelState::cut : dist::ParallelState::whole};
}

void Pipeline::finish_sends() {
  for (Held& held : held_) {
    held.pending.reset();
    held.data.reset();
  }
}

}  // namespace lorashard::core
