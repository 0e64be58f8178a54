#include "launch/plan_page.hpp"

namespace lorashard::launch {

namespace {

using boost::json::array;
using boost::json::object;

object memory_of(const core::PlannedRanks& kind, double libraries_bytes) {
  object held, peak;
  for (int c = 0; c < kernels::kCategoryCount; ++c) {
    const char* category = name(static_cast<kernels::Category>(c));
    held[category] = kind.held_bytes[c];
    peak[category] = kind.peak_bytes[c];
  }
  object activations;
  for (int k = 0; k < kernels::kActivationKindCount; ++k)
    if (kind.activation_bytes[k] > 0)
      activations[name(static_cast<kernels::ActivationKind>(k))] = kind.activation_bytes[k];
  array ranks;
  for (const int rank : kind.ranks) ranks.push_back(rank);
  return {{"stage", kind.stage},
          {"ranks", ranks},
          {"between_steps", held},
          {"peak", peak},
          {"activation_parts", activations},
          {"peak_bytes", kind.peak_total_bytes},
          {"host_copy_bytes", kind.host_copy_bytes},
          {"saved_copy_bytes", kind.saved_copy_bytes},
          {"libraries", libraries_bytes}};
}

object time_of(const core::StepTime& time) {
  object parts;
  for (int p = 0; p < core::kPartCount; ++p) parts[core::name(static_cast<core::Part>(p))] = time.parts[p];
  parts["pipeline"] = time.parts[static_cast<int>(core::Part::pipeline)] + time.message_s;
  parts["bubble"] = time.bubble_s;
  parts["recomputed"] = time.again_s;
  parts["hidden"] = time.hidden_s;
  return parts;
}

array lanes_of(const core::StepTime& time) {
  array lanes;
  for (const auto& lane : time.lanes) {
    array spans;
    for (const core::Span& span : lane)
      spans.push_back({{"work", span.work},
                       {"number", span.number},
                       {"part", span.part},
                       {"start_s", span.start_s},
                       {"end_s", span.end_s}});
    lanes.push_back(spans);
  }
  return lanes;
}

array stages_of(const core::Plan& plan) {
  array stages;
  for (const core::PlannedStage& stage : plan.stages) {
    array traffic;
    for (const auto& [key, entry] : stage.traffic)
      traffic.push_back({{"axis", key.first},
                         {"verb", dist::name(key.second)},
                         {"ranks", entry.size},
                         {"messages", entry.messages},
                         {"bytes", entry.bytes}});
    stages.push_back({{"layers", stage.layers},
                      {"flops", stage.flops},
                      {"recomputed_flops", stage.again_flops},
                      {"traffic", traffic}});
  }
  return stages;
}

}  // namespace

object layout_json(const Job& job, const core::Hardware& hardware) {
  object root;
  root["method"] = name(job.config.adapter.method);
  root["hardware"] = hardware.name;
  root["ranks"] = job.extents.ranks();
  root["mesh"] = {{"tensor", job.extents.tensor},
                  {"pipeline", job.extents.pipeline},
                  {"data", job.extents.data},
                  {"sequence_parallel", job.config.mesh.sequence_parallel},
                  {"schedule", dist::name(job.config.mesh.schedule)},
                  {"chunks", job.config.mesh.chunks}};
  root["microbatch"] = microbatch_of(job.config.train, job.extents.data);
  const core::Recompute recompute = job.config.train.recompute;
  root["recompute"] = recompute == core::Recompute::none        ? "none"
                      : recompute == core::Recompute::selective ? "selective"
                                                                : "full";
  root["precision"] = kernels::name(job.config.train.precision);
  root["memory_bytes"] = hardware.memory_bytes;
  return root;
}

object plan_json(const Job& job, const core::Hardware& hardware, const core::Plan& plan) {
  const int ranks = job.extents.ranks();
  const auto rate = [&](double flops) { return flops / plan.time.step_s / ranks / 1e12; };
  object root = layout_json(job, hardware);
  root["fits"] = plan.fits();
  root["parameters"] = plan.base_parameters;
  root["trained_parameters"] = plan.trained_parameters;
  root["peak_bytes_per_rank"] = plan.peak_bytes_per_rank;
  root["tokens_per_step"] = plan.tokens;
  root["step_s"] = plan.time.step_s;
  root["tokens_per_s"] = plan.tokens_per_s();
  root["tokens_per_s_per_gpu"] = plan.tokens_per_s() / ranks;
  root["model_tflops_per_gpu"] = rate(plan.model_flops);
  root["hardware_tflops_per_gpu"] = rate(plan.hardware_flops);
  root["gpu_hours"] = gpu_hours(job, plan);
  root["checkpoint_bytes"] = plan.checkpoint_bytes;
  root["reduced_bytes_per_step"] = plan.reduced_bytes;
  root["load_bytes_per_node"] = plan.load_bytes;
  root["host_copy_bytes_per_node"] = plan.host_copy_bytes;
  root["saved_copy_bytes_per_node"] = plan.saved_copy_bytes;
  array memory;
  for (const core::PlannedRanks& kind : plan.ranks) memory.push_back(memory_of(kind, hardware.libraries_bytes));
  root["memory"] = memory;
  root["time"] = time_of(plan.time);
  root["stages"] = stages_of(plan);
  root["timeline"] = lanes_of(plan.time);
  return root;
}

}  // namespace lorashard::launch
