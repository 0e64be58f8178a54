// What one layout takes, from walks of as few ranks and microbatches as tell (layouts.hpp).
#include <algorithm>
#include <map>

#include "core/layouts.hpp"
#include "core/model.hpp"
#include "core/options.hpp"
#include "core/walk.hpp"

namespace lorashard::core {

using kernels::Failure;

namespace {

// The same with no more than `most` microbatches a step.
Layout shortened(const Layout& layout, Index most) {
  Layout shorter = layout;
  TrainConfig& train = shorter.config.train;
  train.microbatch = microbatch_of(train, layout.extents.data);
  train.batch = std::min(train.batch, train.microbatch * most * layout.extents.data);
  return shorter;
}

// Layers of each model part of a stage, and whether it has an end of the model: stages alike in that take the same
// time.
std::vector<Index> kind_of_stage(const Layout& layout, int stage) {
  const int stages = layout.extents.pipeline, parts = stages * layout.config.mesh.chunks;
  std::vector<Index> kind{stage == 0, stage == stages - 1};
  for (int part = stage; part < parts; part += stages)
    kind.push_back(layers_of_part(layout.config.model.shape.layers, part, parts).count);
  const AdapterConfig& adapter = layout.config.adapter;
  if (adapter.method == Method::lora && !adapter.layers.empty()) kind.push_back(stage);
  return kind;
}

// The works of a step of `microbatches` from those of a step of two (or one): the first stands for all but the last,
// whose backward pass starts the gradients' sums.
std::vector<WorkTime> repeated(const std::vector<WorkTime>& works, int walked, int microbatches) {
  std::vector<WorkTime> all;
  for (const WorkTime& work : works) {
    const bool action = work.work == "forward" || work.work == "backward";
    if (!action) {
      all.push_back(work);
    } else if (work.number == walked - 1) {
      all.push_back(work);
      all.back().number = microbatches - 1;
    }
    if (!action || work.number != 0) continue;
    for (int number = 0; number < microbatches - 1; ++number) {
      all.push_back(work);
      all.back().number = number;
    }
  }
  return all;
}

}  // namespace

PlanRequest request_of(const LayoutRequest& request, const Layout& layout) {
  return {layout.config, layout.extents, request.target, request.train, {}, request.hides_sums};
}

bool fits(const LayoutRequest& request, const Layout& layout) {
  return peak_bytes(request, layout) <= request.hardware.memory_bytes;
}

bool possible(const Layout& layout) {
  try {
    check_config(layout.config, layout.extents.ranks());
    return true;
  } catch (const kernels::Error& error) {
    if (error.failure() != Failure::configuration) throw;
    return false;
  }
}

// The schedule holds no more than some microbatches at once (1f1b: as many as stages), so that some stand for all; the
// ids and labels of the others, which lie there all the time, are added.
double peak_bytes(const LayoutRequest& request, const Layout& layout) {
  const MeshConfig& mesh = layout.config.mesh;
  const Index stages = layout.extents.pipeline;
  const Index held = mesh.schedule == dist::ScheduleKind::gpipe ? layout.config.train.batch
                     : mesh.chunks > 1                          ? 2 * stages * mesh.chunks + 1
                                                                : stages + 1;
  const Layout shorter = shortened(layout, held);
  const Index left_out = (layout.config.train.batch - shorter.config.train.batch) / layout.extents.data;
  const Index ids_bytes = left_out * layout.config.data.length * 2 * static_cast<Index>(sizeof(std::int32_t));
  return static_cast<double>(planned_peak_bytes(request_of(request, shorter)) + ids_bytes) +
         request.hardware.libraries_bytes;
}

double planned_step_s(const LayoutRequest& request, const Layout& layout) {
  const Layout shorter = shortened(layout, 2);
  const TrainConfig& walked = shorter.config.train;
  const Index a_microbatch = walked.microbatch * layout.extents.data;  // sequences of all data ranks
  const PlanRequest walk_request = request_of(request, shorter);
  std::map<std::vector<Index>, std::vector<WorkTime>> known;
  std::vector<const std::vector<WorkTime>*> works;
  double message_bytes = 0;
  for (int stage = 0; stage < layout.extents.pipeline; ++stage) {
    const auto [found, fresh] = known.try_emplace(kind_of_stage(layout, stage));
    if (fresh) {
      Clock clock(request.hardware, clock_settings(walk_request));
      const Walk walk(walk_request, {0, stage, 0}, &clock);
      found->second = repeated(clock.works(), static_cast<int>(walked.batch / a_microbatch),
                               static_cast<int>(layout.config.train.batch / a_microbatch));
      message_bytes = std::max(message_bytes, clock.message_bytes());
    }
    works.push_back(&found->second);
  }
  return planned_time(request_of(request, layout), request.hardware, works, message_bytes).step_s;
}

}  // namespace lorashard::core
