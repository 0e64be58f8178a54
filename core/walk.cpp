#include "core/walk.hpp"

#include "core/model.hpp"

namespace lorashard::core {

using dist::ActionKind;
using kernels::kCategoryCount;

Walk::Walk(const PlanRequest& request, const dist::MeshPoint& point, Clock* clock)
    : device_(kernels::make_meta_device(request.target)),
      mesh_(dist::make_meta_mesh(*device_, request.extents, dist::rank_of(request.extents, point), clock)),
      trainer_(request.config, *device_, mesh_),
      on_host_(request.target == kernels::DeviceKind::host) {
  const RunConfig& run = request.config.run;
  if (run.background_save && run.checkpoint_every > 0) saved_copy_ = trainer_.saved_bytes();
  for (int c = 0; c < kCategoryCount; ++c)
    held_[c] = device_->ledger().current_bytes(static_cast<kernels::Category>(c));
  device_->profile().tell(clock);
  if (clock != nullptr) clock->run(true);
  trainer_.step(request.train);
  if (clock != nullptr) clock->run(false);
  for (const Dataset& set : request.valid) trainer_.evaluate(set);
}

CategoryBytes Walk::peak() const {
  CategoryBytes bytes;
  for (int c = 0; c < kCategoryCount; ++c) bytes[c] = device_->ledger().peak_bytes(static_cast<kernels::Category>(c));
  return bytes;
}

ActivationBytes Walk::activations() const {
  ActivationBytes bytes;
  for (int k = 0; k < kernels::kActivationKindCount; ++k)
    bytes[k] = device_->ledger().peak_bytes(static_cast<kernels::ActivationKind>(k));
  return bytes;
}

ClockSettings clock_settings(const PlanRequest& request) {
  return {request.extents, request.config.train.precision, request.config.device.tf32,
          request.target == kernels::DeviceKind::cuda};
}

double stage_message_s(const Hardware& hardware, const dist::MeshExtents& extents, int from, int to, double bytes) {
  const auto node = [&](int stage) { return stage * extents.tensor / hardware.cards_per_node; };
  return from == to ? 0 : message_s(hardware, bytes, node(from) == node(to));
}

StepTime planned_time(const PlanRequest& request, const Hardware& hardware,
                      const std::vector<const std::vector<WorkTime>*>& works, double message_bytes) {
  const Config& config = request.config;
  const int stages = request.extents.pipeline, parts = stages * config.mesh.chunks;
  TimelineInput input;
  input.hides_sums = request.hides_sums;
  const Index microbatches =
      config.train.batch / request.extents.data / microbatch_of(config.train, request.extents.data);
  input.shape = {config.mesh.schedule, stages, static_cast<int>(microbatches), config.mesh.chunks};
  input.stages = works;
  input.travel = [=, &hardware](int stage, const dist::Action& action) {
    const int peer =
        dist::route({config.mesh.schedule, stages, 1, config.mesh.chunks}, stage, {action.kind, 0, action.chunk}).peer;
    return stage_message_s(hardware, request.extents, stage, peer, message_bytes);
  };
  std::vector<bool> trains;  // by part: something up to it
  const TrainingPlan plan = make_plan(config);
  for (int part = 0; part < parts; ++part)
    trains.push_back((part > 0 && trains.back()) || trains_up_to(plan, config.model.shape, part, parts));
  input.happens = [=](int stage, const dist::Action& action) {
    const int part = action.chunk * stages + stage;
    if (action.kind == ActionKind::receive_backward) return bool(trains[part]);
    if (action.kind == ActionKind::send_backward) return bool(trains[part - 1]);
    return true;
  };
  return time_step(input);
}

}  // namespace lorashard::core
