#include "core/plan.hpp"

#include <algorithm>
#include <list>
#include <map>
#include <numeric>

#include "core/model.hpp"
#include "core/walk.hpp"

namespace lorashard::core {

using kernels::kCategoryCount;

namespace {

// What makes two tensor ranks of a stage differ: the local extents of their tensors, their rows of the residual stream,
// and who counts values that all of them hold.
std::vector<Index> signature(const PlanRequest& request, int stage, int tensor) {
  const MeshConfig& mesh = request.config.mesh;
  const ModelShape& shape = request.config.model.shape;
  const int parts = request.extents.pipeline * mesh.chunks;
  std::vector<Index> all{tensor == 0};
  for (int part = stage; part < parts; part += request.extents.pipeline)
    for (const TensorInfo& info : tensors_of_part(shape, part, parts)) {
      all.push_back(info.row_cut(tensor, request.extents.tensor).local_extent());
      all.push_back(info.col_cut(tensor, request.extents.tensor).local_extent());
    }
  if (mesh.sequence_parallel && request.extents.tensor > 1) {
    const Index rows = microbatch_of(request.config.train, request.extents.data) * request.config.data.length;
    const Index part = (rows + request.extents.tensor - 1) / request.extents.tensor;
    all.push_back(std::clamp<Index>(rows - part * tensor, 0, part));
  }
  return all;
}

std::vector<PlannedRanks> kinds_of(const PlanRequest& request) {
  std::vector<PlannedRanks> kinds;
  for (int stage = 0; stage < request.extents.pipeline; ++stage) {
    std::map<std::vector<Index>, std::size_t> known;
    for (int tensor = 0; tensor < request.extents.tensor; ++tensor) {
      const auto [found, fresh] = known.try_emplace(signature(request, stage, tensor), kinds.size());
      if (fresh) {
        kinds.emplace_back();
        kinds.back().stage = stage;
        kinds.back().tensor = tensor;
      }
      for (int data = 0; data < request.extents.data; ++data)
        kinds[found->second].ranks.push_back(dist::rank_of(request.extents, {tensor, stage, data}));
    }
  }
  for (PlannedRanks& kind : kinds) std::sort(kind.ranks.begin(), kind.ranks.end());
  return kinds;
}

void note_memory(const Walk& walk, PlannedRanks& kind) {
  kind.held_bytes = walk.held();
  kind.peak_bytes = walk.peak();
  kind.activation_bytes = walk.activations();
  kind.peak_total_bytes = walk.peak_total();
  kind.host_copy_bytes = walk.largest_host_copy();
  kind.saved_copy_bytes = walk.saved_copy();
}

// Of the node that has most, its ranks' together.
template <class Bytes>
double most_of_a_node(const Hardware& hardware, const std::vector<PlannedRanks>& kinds, const Bytes& bytes) {
  std::map<int, double> of_node;
  for (const PlannedRanks& kind : kinds)
    for (const int rank : kind.ranks) of_node[rank / hardware.cards_per_node] += static_cast<double>(bytes(kind));
  double most = 0;
  for (const auto& [node, bytes] : of_node) most = std::max(most, bytes);
  return most;
}

}  // namespace

Index PlannedRanks::held_total() const { return std::accumulate(held_bytes.begin(), held_bytes.end(), Index{0}); }

std::vector<PlannedRanks> plan_memory(const PlanRequest& request) {
  std::vector<PlannedRanks> kinds = kinds_of(request);
  for (PlannedRanks& kind : kinds) note_memory(Walk(request, {kind.tensor, kind.stage, 0}, nullptr), kind);
  return kinds;
}

Plan plan_job(const PlanRequest& request, const Hardware& hardware) {
  Plan plan;
  plan.ranks = kinds_of(request);
  plan.tokens = request.config.train.batch * request.config.data.length;
  plan.base_parameters = parameter_count(request.config.model.shape);
  plan.memory_bytes = hardware.memory_bytes;
  std::list<std::vector<WorkTime>> kept;
  std::vector<const std::vector<WorkTime>*> works;
  double message_bytes = 0;
  for (PlannedRanks& kind : plan.ranks) {
    Clock clock(hardware, clock_settings(request));
    const Walk walk(request, {kind.tensor, kind.stage, 0}, &clock);
    note_memory(walk, kind);
    const double ranks = static_cast<double>(kind.ranks.size());
    plan.peak_bytes_per_rank =
        std::max(plan.peak_bytes_per_rank, static_cast<double>(walk.needed()) + hardware.libraries_bytes);
    plan.trained_parameters = walk.trainer().trained_parameters();
    plan.reduced_bytes = std::max(plan.reduced_bytes, walk.trainer().reduced_bytes());
    plan.hardware_flops += clock.flops() * ranks;
    plan.model_flops += (clock.flops() - clock.again_flops()) * ranks;
    if (kind.tensor != 0) continue;
    message_bytes = std::max(message_bytes, clock.message_bytes());
    works.push_back(&kept.emplace_back(clock.works()));
    plan.stages.push_back({0, clock.flops(), clock.again_flops(), clock.traffic()});
  }
  const int parts = request.extents.pipeline * request.config.mesh.chunks;
  for (int part = 0; part < parts; ++part)
    plan.stages[part % request.extents.pipeline].layers +=
        layers_of_part(request.config.model.shape.layers, part, parts).count;
  plan.time = planned_time(request, hardware, works, message_bytes);
  plan.checkpoint_bytes = 3.0 * size_bytes(kernels::DType::f32) * static_cast<double>(plan.trained_parameters);
  plan.load_bytes = most_of_a_node(hardware, plan.ranks, [](const PlannedRanks& kind) {
    return kind.held_bytes[static_cast<int>(kernels::Category::base)];
  });
  plan.host_copy_bytes =
      most_of_a_node(hardware, plan.ranks, [](const PlannedRanks& kind) { return kind.host_copy_bytes; });
  plan.saved_copy_bytes =
      most_of_a_node(hardware, plan.ranks, [](const PlannedRanks& kind) { return kind.saved_copy_bytes; });
  return plan;
}

// Among stages alike but for their place the first holds the most microbatches at once, so that the first, the second
// (which stands for all that are neither first nor last) and the last will do, unless layers differ in what trains. The
// first rank of a stage holds no less than its others.
Index planned_peak_bytes(const PlanRequest& request) {
  const AdapterConfig& adapter = request.config.adapter;
  const bool alike = adapter.method == Method::full || adapter.layers.empty();
  const int last = request.extents.pipeline - 1;
  Index peak = 0;
  for (int stage = 0; stage <= last; ++stage)
    if (!alike || stage < 2 || stage == last) peak = std::max(peak, Walk(request, {0, stage, 0}, nullptr).needed());
  return peak;
}

}  // namespace lorashard::core
