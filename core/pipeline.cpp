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
    const int part = chunk * shape_.stages + context.mesh.point().pipeline;
    parts_.emplace_back(context, parameters, plan, part, shape_.stages * shape_.chunks);
  }
}

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
  const auto key = std::pair(action.chunk, action.microbatch);
  switch (action.kind) {
    case ActionKind::receive_forward:
      in_ = receive(action, microbatch);
      break;
    case ActionKind::forward:
      out_ = part.forward(std::move(in_), microbatch, &saved_[key], loss_sum_);
      break;
    case ActionKind::send_forward:
      send(action, std::move(out_.data));
      break;
    case ActionKind::receive_backward:
      if (part.has_backward()) in_ = receive(action, microbatch);
      break;
    case ActionKind::backward: {
      ModelPart::Saved saved = std::move(saved_[key]);
      saved_.erase(key);
      if (part.has_backward()) out_ = part.backward(std::move(in_), microbatch, std::move(saved));
      break;
    }
    case ActionKind::send_backward:
      if (part.sends_gradient()) send(action, std::move(out_.data));
      break;
  }
}

double Pipeline::evaluate(const Microbatch& microbatch) {
  loss_sum_ = 0;
  for (int chunk = 0; chunk < shape_.chunks; ++chunk) {
    const ModelPart& part = parts_[chunk];
    Activation x;
    if (!part.first()) x = receive({ActionKind::receive_forward, 0, chunk}, microbatch);
    x = part.forward(std::move(x), microbatch, nullptr, loss_sum_);
    if (!part.last()) send({ActionKind::send_forward, 0, chunk}, std::move(x.data));
  }
  finish_sends();
  return loss_sum_;
}

void Pipeline::send(const dist::Action& action, Tensor data) {
  Held& held = action.kind == ActionKind::send_forward ? held_forward_ : held_backward_;
  held.pending.reset();
  held.data = std::move(data);
  const dist::Route route = dist::route(shape_, context_.mesh.point().pipeline, action);
  held.pending = context_.mesh.pipeline().send(held.data, route.peer, route.tag);
}

Activation Pipeline::receive(const dist::Action& action, const Microbatch& microbatch) {
  Tensor data(context_.device, Category::activation, context_.activation, row_part(context_, microbatch.rows()).buffer,
              context_.shape.width);
  const dist::Route route = dist::route(shape_, context_.mesh.point().pipeline, action);
  context_.mesh.pipeline().receive(data, route.peer, route.tag);
  return {std::move(data), context_.splits_rows() ? dist::ParallelState::cut : dist::ParallelState::whole};
}

void Pipeline::finish_sends() {
  for (Held* held : {&held_forward_, &held_backward_}) {
    held->pending.reset();
    held->data.reset();
  }
}

}  // namespace lorashard::core
