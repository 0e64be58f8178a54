#include "core/pipeline.hpp"

#include <algorithm>
#include <utility>

namespace lorashard::core {

using dist::ActionKind;
using kernels::WorkScope;

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

void Pipeline::train(std::span<const Microbatch> microbatches, Matrix loss_total, const ModelPart::LayerDone& done) {
  shape_.microbatches = static_cast<int>(microbatches.size());
  const Step step{microbatches, loss_total, done};
  const std::vector<dist::Action> actions = dist::make_schedule(shape_, context_.mesh.point().pipeline);
  for (auto action = actions.begin(); action != actions.end(); ++action) {
    if (action->kind == ActionKind::forward || action->kind == ActionKind::backward) {
      const auto next = std::find_if(action, actions.end(), [this](const dist::Action& a) { return comes(a); });
      if (next != actions.end() && incoming_.data.none()) begin_receive(*next, microbatches[next->microbatch]);
    }
    run(*action, step);
  }
  finish_sends();
}

void Pipeline::run(const dist::Action& action, const Step& step) {
  const ModelPart& part = parts_[action.chunk];
  const Microbatch& microbatch = step.microbatches[action.microbatch];
  switch (action.kind) {
    case ActionKind::receive_forward:
    case ActionKind::receive_backward:
      if (comes(action)) in_ = receive(action, microbatch);
      break;
    case ActionKind::forward: {
      const WorkScope work(context_.device.profile(), "forward", action.microbatch, action.chunk);
      if (context_.finder) context_.finder->begin(FirstNotFinite::Pass::forward);
      out_ = part.forward(std::move(in_), microbatch, &saved_[{action.chunk, action.microbatch}], step.loss_total);
      break;
    }
    case ActionKind::send_forward:
      send(action, std::move(out_.data));
      break;
    case ActionKind::backward:
      backward(action, step);
      break;
    case ActionKind::send_backward:
      if (part.sends_gradient()) send(action, std::move(out_.data));
      break;
  }
}

// Microbatches run backward in order, so the last one completes the step's gradients of its part.
void Pipeline::backward(const dist::Action& action, const Step& step) {
  const WorkScope work(context_.device.profile(), "backward", action.microbatch, action.chunk);
  if (context_.finder) context_.finder->begin(FirstNotFinite::Pass::backward);
  const auto saved = saved_.extract({action.chunk, action.microbatch});
  const ModelPart& part = parts_[action.chunk];
  if (!part.has_backward()) return;
  const bool last = action.microbatch + 1 == shape_.microbatches;
  out_ = part.backward(std::move(in_), step.microbatches[action.microbatch], std::move(saved.mapped()),
                       last ? step.done : [](Index) {});
}

void Pipeline::evaluate(const Microbatch& microbatch, Matrix loss_total) {
  for (int chunk = 0; chunk < shape_.chunks; ++chunk) {
    const ModelPart& part = parts_[chunk];
    Activation x;
    if (!part.first()) x = receive({ActionKind::receive_forward, 0, chunk}, microbatch);
    x = part.forward(std::move(x), microbatch, nullptr, loss_total);
    if (!part.last()) send({ActionKind::send_forward, 0, chunk}, std::move(x.data));
  }
  finish_sends();
}

void Pipeline::send(const dist::Action& action, Tensor data) {
  Held& held = action.kind == ActionKind::send_forward ? held_forward_ : held_backward_;
  held.pending.reset();
  held.data = std::move(data);
  const dist::Route route = dist::route(shape_, context_.mesh.point().pipeline, action);
  held.pending = context_.mesh.pipeline().send(held.data, route.peer, route.tag);
}

bool Pipeline::comes(const dist::Action& action) const {
  return action.kind == ActionKind::receive_forward ||
         (action.kind == ActionKind::receive_backward && parts_[action.chunk].has_backward());
}

void Pipeline::begin_receive(const dist::Action& action, const Microbatch& microbatch) {
  incoming_.data = Tensor(context_.device, ActivationKind::residual, context_.activation,
                          row_part(context_, microbatch.rows()).buffer, context_.shape.width);
  const dist::Route route = dist::route(shape_, context_.mesh.point().pipeline, action);
  incoming_.pending = context_.mesh.pipeline().start_receive(incoming_.data, route.peer, route.tag);
}

Activation Pipeline::receive(const dist::Action& action, const Microbatch& microbatch) {
  if (incoming_.data.none()) begin_receive(action, microbatch);
  incoming_.pending->wait();
  incoming_.pending.reset();
  return {std::exchange(incoming_.data, {}), context_.splits_rows() ? dist::ParallelState::cut : dist::ParallelState::whole};
}

void Pipeline::finish_sends() {
  for (Held* held : {&held_forward_, &held_backward_}) {
    held->pending.reset();
    held->data.reset();
  }
}

}  // namespace lorashard::core
