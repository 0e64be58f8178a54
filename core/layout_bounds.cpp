#include "core/layout_bounds.hpp"

#include <algorithm>
#include <optional>
#include <string_view>

#include "core/model.hpp"
#include "core/walk.hpp"

namespace lorashard::core {

using kernels::DType;

namespace {

constexpr double kRounding = 1 - 1e-9;  // sums in another order than the program's

// A walk of one of two stages of so many layers each, two microbatches on each data rank; none: no such job.
struct ShortStage {
  std::vector<WorkTime> works;
  TrafficTable traffic;
  double held_bytes = 0, activation_bytes = 0, message_bytes = 0;
};
std::optional<ShortStage> walked_stage(const LayoutRequest& request, const Candidate& candidate, int stage,
                                       Index layers, int data) {
  Candidate few = candidate;
  few.extents = {candidate.extents.tensor, 2, data};
  few.chunks = 1;
  Layout layout = layout_of(request.config, few);
  layout.config.model.base.clear();
  layout.config.model.shape.layers = 2 * layers;
  layout.config.train.batch = 2 * candidate.microbatch * data;
  if (!possible(layout)) return std::nullopt;
  const PlanRequest walk_request = request_of(request, layout);
  ClockSettings settings = clock_settings(walk_request);
  settings.extents = candidate.extents;  // whose groups lie on the nodes as they do
  Clock clock(request.hardware, settings);
  const Walk walk(walk_request, {0, stage, 0}, &clock);
  return ShortStage{clock.works(), clock.traffic(), static_cast<double>(walk.held_total()),
                    static_cast<double>(walk.peak()[static_cast<int>(kernels::Category::activation)]),
                    clock.message_bytes()};
}

double seconds_of(const WorkTime& work, Part part) { return work.seconds[static_cast<int>(part)]; }

// Without messages and sums over ranks: of the first microbatch, which starts none, or of what comes after the last.
double seconds_of(const ShortStage& stage, const std::string& name) {
  double seconds = 0;
  for (const WorkTime& work : stage.works)
    if (work.work == name && work.number == 0)
      seconds += sum_of(work.seconds) - seconds_of(work, Part::pipeline) - seconds_of(work, Part::data);
  return seconds;
}

}  // namespace

Layout layout_of(const Config& config, const Candidate& candidate) {
  Layout layout{config, candidate.extents, ""};
  TrainConfig& train = layout.config.train;
  train.microbatch = candidate.microbatch;
  train.recompute = candidate.recompute;
  train.precision = candidate.precision;
  MeshConfig& mesh = layout.config.mesh;
  mesh.tensor = candidate.extents.tensor;
  mesh.pipeline = candidate.extents.pipeline;
  mesh.sequence_parallel = candidate.sequence_parallel;
  mesh.chunks = candidate.chunks;
  mesh.schedule = candidate.chunks > 1 ? dist::ScheduleKind::interleaved : dist::ScheduleKind::one_f_one_b;
  return layout;
}

LayoutBounds::LayoutBounds(const LayoutRequest& request) : request_(request) {
  const Config& config = request.config;
  alike_ = config.adapter.method == Method::full || (config.adapter.layers.empty() && config.adapter.init.empty());
  const double passes = config.adapter.method == Method::full ? 3 : alike_ ? 2 : 1;
  // The lowest block hands no gradient down.
  const double layers = static_cast<double>(config.model.shape.layers);
  flops_ = 2 * multiplied_parameters(config.model.shape) * (1 + (passes - 1) * (layers - 1) / layers) *
           static_cast<double>(config.train.batch * config.data.length);
}

double LayoutBounds::least_s(int ranks, DType precision) const {
  constexpr Index kLarge = 32768;
  const kernels::ProductShape large{kLarge, kLarge, kLarge, precision};
  const double rate = 2.0 * kLarge * kLarge * kLarge / product_s(request_.hardware, large, request_.config.device.tf32);
  return flops_ / ranks / rate;
}

// Linear in the layers, so that two lengths of a stage tell a layer's part and the rest.
LayoutBounds::LayerCost LayoutBounds::walked_cost(const Candidate& candidate) const {
  if (!alike_) return {};
  const auto first = walked_stage(request_, candidate, 0, 1, 1), one = walked_stage(request_, candidate, 1, 1, 1),
             two = walked_stage(request_, candidate, 1, 2, 1);
  if (!first || !one || !two) return {};
  LayerCost cost;
  cost.forward_s = seconds_of(*two, "forward") - seconds_of(*one, "forward");
  cost.backward_s = seconds_of(*two, "backward") - seconds_of(*one, "backward");
  cost.lowest_s = seconds_of(*first, "forward") + seconds_of(*first, "backward");
  cost.head_s =
      std::max(0.0, seconds_of(*one, "forward") + seconds_of(*one, "backward") - cost.forward_s - cost.backward_s);
  cost.kept_bytes = std::max(0.0, two->activation_bytes - one->activation_bytes);
  cost.message_bytes = two->message_bytes;
  return cost;
}

// The same of the weights. Adapters are the same on all data ranks.
LayoutBounds::WeightCost LayoutBounds::walked_weights(const Candidate& candidate) const {
  if (!alike_) return {};
  Candidate plain = candidate;
  plain.microbatch = 1;
  plain.sequence_parallel = false;
  plain.recompute = Recompute::none;
  const int data = candidate.extents.data;
  const auto one = walked_stage(request_, plain, 1, 1, data), two = walked_stage(request_, plain, 1, 2, data);
  if (!one || !two) return {};
  WeightCost cost;
  cost.held_bytes = std::max(0.0, two->held_bytes - one->held_bytes);
  cost.update_s = std::max(0.0, seconds_of(*two, "update") - seconds_of(*one, "update"));
  double inline_s = 0;
  for (const WorkTime& work : two->works) {
    if (work.work == "reduce" || work.work == "update") inline_s += seconds_of(work, Part::data);
    cost.hides_sums = cost.hides_sums || !work.started.empty();
  }
  for (const auto& [key, entry] : two->traffic)
    if (key.first == "data" && inline_s > 0) cost.data_bytes[key.second] = entry.bytes - one->traffic.at(key).bytes;
  return cost;
}

const LayoutBounds::WeightCost& LayoutBounds::weights_of(const Candidate& candidate) {
  const auto [found, fresh] =
      weights_.try_emplace({candidate.extents.tensor, candidate.extents.data, candidate.precision});
  if (fresh) found->second = walked_weights(candidate);
  return found->second;
}

// One message of all the bytes takes no longer than several: the clock's collectives gain by size. With several parts on
// a stage their last backward passes have others between them, which may hide all.
double LayoutBounds::tail_s(const Candidate& candidate) {
  const WeightCost& weights = weights_of(candidate);
  const auto layers = static_cast<double>(layers_of(candidate, 0));
  double seconds = layers * weights.update_s, hidden_s = 0;
  for (const auto& [verb, bytes] : weights.data_bytes) {
    const bool hides = weights.hides_sums && verb == dist::Verb::reduce_scatter;
    (hides ? hidden_s : seconds) += collective_s(request_.hardware, verb, layers * bytes, group(candidate.extents, "data"));
  }
  if (candidate.chunks > 1) return seconds;
  const LayerCost& cost = cost_of(candidate);
  const double longest_backward_s = cost.lowest_s + (layers - 1) * cost.backward_s + cost.head_s;
  return seconds + std::max(0.0, hidden_s - longest_backward_s);
}

// Tensor ranks lie beside each other whatever the rest of the mesh.
const Group& LayoutBounds::group(const dist::MeshExtents& extents, const char* axis) {
  const bool tensor = std::string_view(axis) == "tensor";
  const auto [found, fresh] =
      groups_[tensor ? 0 : 1].try_emplace({extents.tensor, tensor ? 0 : extents.pipeline, extents.ranks()});
  if (fresh) found->second = group_of(request_.hardware, extents, axis);
  return found->second;
}

const LayoutBounds::LayerCost& LayoutBounds::cost_of(const Candidate& c) {
  const Group& tensor = group(c.extents, "tensor");
  const Key key{c.extents.tensor, tensor.per_node, tensor.groups_per_node, c.microbatch, c.sequence_parallel,
                c.recompute,      c.precision};
  const auto found = known_.find(key);
  return found != known_.end() ? found->second : known_.emplace(key, walked_cost(c)).first->second;
}

Index LayoutBounds::layers_of(const Candidate& candidate, int stage) const {
  const int stages = candidate.extents.pipeline, parts = stages * candidate.chunks;
  Index layers = 0;
  for (int part = stage; part < parts; part += stages)
    layers += layers_of_part(request_.config.model.shape.layers, part, parts).count;
  return layers;
}

double LayoutBounds::least_s(const Candidate& candidate) {
  const LayerCost& cost = cost_of(candidate);
  const Index all_layers = request_.config.model.shape.layers;
  const double layer_s = cost.forward_s + cost.backward_s;
  const int stages = candidate.extents.pipeline, parts = stages * candidate.chunks;
  const auto microbatches =
      static_cast<double>(request_.config.train.batch / candidate.extents.data / candidate.microbatch);
  // There and back.
  const auto hop_s = [&](int from, int to) {
    return 2 * stage_message_s(request_.hardware, candidate.extents, from, to, cost.message_bytes);
  };
  double least = 0, before = 0, hops_s = 0;  // before: the first parts of earlier stages
  for (int stage = 0; stage < stages; ++stage) {
    // The lowest layer does less.
    const auto work_s = [&](Index layers) {
      const double n = static_cast<double>(layers);
      return stage == 0 ? cost.lowest_s + (n - 1) * layer_s : n * layer_s;
    };
    const double own_s = work_s(layers_of(candidate, stage)) + (stage == stages - 1 ? cost.head_s : 0);
    least = std::max(least, microbatches * own_s + before);
    before += work_s(layers_of_part(all_layers, stage, parts).count);
    if (stage + 1 < stages) before += hop_s(stage, stage + 1), hops_s += candidate.chunks * hop_s(stage, stage + 1);
  }
  if (stages > 1) hops_s += (candidate.chunks - 1) * hop_s(stages - 1, 0);
  const double path_s =
      cost.lowest_s + static_cast<double>(all_layers - 1) * layer_s + cost.head_s + hops_s +
      (microbatches - 1) * static_cast<double>(layers_of_part(all_layers, 0, parts).count - 1) * cost.forward_s;
  return kRounding *
         std::max(std::max(least, path_s) + tail_s(candidate), least_s(candidate.extents.ranks(), candidate.precision));
}

double LayoutBounds::least_bytes(const Candidate& candidate) {
  const Index layers = layers_of(candidate, 0);
  double least = static_cast<double>(layers) * weights_of(candidate).held_bytes;
  if (least + request_.hardware.libraries_bytes <= request_.hardware.memory_bytes) {  // else no more needs a walk
    const Index microbatches = request_.config.train.batch / candidate.extents.data / candidate.microbatch;
    const Index under_way = std::min<Index>(microbatches, candidate.extents.pipeline) * (layers - 1);
    if (under_way > 0) least += static_cast<double>(under_way) * cost_of(candidate).kept_bytes;
  }
  return kRounding * least + request_.hardware.libraries_bytes;
}

}  // namespace lorashard::core
