// What a job would take: the program itself on the meta device, one rank of every kind, on the clock of a card.
//
// There is no second formula: memory, work and traffic are what the trainer asks of its device and its communicators;
// time is core/clock.hpp over the same calls.
#pragma once

#include <span>

#include "core/dataset.hpp"
#include "core/timeline.hpp"

namespace lorashard::core {

struct PlanRequest {
  const Config& config;  // complete, checked against `extents`
  dist::MeshExtents extents;
  kernels::DeviceKind target = kernels::DeviceKind::cuda;  // host or cuda: whose scratch memory counts
  const Dataset& train;
  std::span<const Dataset> valid;  // evaluated once for its memory
  bool hides_sums = true;          // beside the backward pass, where the target can; false: as programs that sum after it
};

using CategoryBytes = std::array<Index, kernels::kCategoryCount>;
using ActivationBytes = std::array<Index, kernels::kActivationKindCount>;

// Ranks that hold the same tensors in the same extents: alike in memory and work.
struct PlannedRanks {
  int stage = 0;
  int tensor = 0;            // of the one that was walked, at data 0
  std::vector<int> ranks;    // all of them, rising
  CategoryBytes held_bytes;  // between steps
  CategoryBytes peak_bytes;  // by category, each at its highest
  ActivationBytes activation_bytes;  // of the activations at their highest, by what they are
  Index peak_total_bytes = 0;
  Index host_copy_bytes = 0;  // host memory on a tensor's way from a file to a card; on the host device there is none
  Index saved_copy_bytes = 0;  // host memory for the state while it is written beside the training
  Index held_total() const;
};

struct PlannedStage {
  Index layers = 0;
  double flops = 0, again_flops = 0;  // of products and attention, a step and rank
  TrafficTable traffic;               // of tensor rank 0
};

struct Plan {
  std::vector<PlannedRanks> ranks;  // by stage, then tensor
  std::vector<PlannedStage> stages;
  StepTime time;
  Index trained_parameters = 0, base_parameters = 0;
  Index reduced_bytes = 0;                     // of gradients a step, most of any rank
  Index tokens = 0;                            // a step
  double model_flops = 0, hardware_flops = 0;  // a step, all ranks; model: without what is computed twice
  double checkpoint_bytes = 0;
  double load_bytes = 0;       // of the base, read by the fullest node
  double host_copy_bytes = 0, saved_copy_bytes = 0;  // of the fullest node, all its ranks together
  // Fullest rank, with what the libraries take; on a host with the copy of the state too.
  double peak_bytes_per_rank = 0;
  double memory_bytes = 0;  // that the hardware has for it
  bool fits() const { return peak_bytes_per_rank <= memory_bytes; }
  double tokens_per_s() const { return static_cast<double>(tokens) / time.step_s; }
};

Plan plan_job(const PlanRequest& request, const Hardware& hardware);

// The memory alone, of every kind of rank.
std::vector<PlannedRanks> plan_memory(const PlanRequest& request);

// The fullest rank's bytes, without what the libraries take.
Index planned_peak_bytes(const PlanRequest& request);

}  // namespace lorashard::core
