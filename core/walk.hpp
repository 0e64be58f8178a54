// One rank of a job on the meta device: made, one step, and the evaluations.
#pragma once

#include <memory>
#include <numeric>

#include "core/plan.hpp"
#include "core/trainer.hpp"

namespace lorashard::core {

class Walk {
 public:
  // `clock` may be null. The request outlives this.
  Walk(const PlanRequest& request, const dist::MeshPoint& point, Clock* clock);

  const Trainer& trainer() const { return trainer_; }
  const CategoryBytes& held() const { return held_; }  // before the step
  Index held_total() const { return std::accumulate(held_.begin(), held_.end(), Index{0}); }
  CategoryBytes peak() const;
  ActivationBytes activations() const;  // at their peak
  Index peak_total() const { return device_->ledger().peak_bytes(); }
  // With the copy of the state where that lies in the same memory, on a host.
  Index needed() const { return peak_total() + (on_host_ ? saved_copy_ : 0); }
  Index saved_copy() const { return saved_copy_; }
  Index largest_host_copy() const { return device_->ledger().largest_host_copy(); }

 private:
  std::unique_ptr<kernels::Device> device_;
  dist::Mesh mesh_;
  Trainer trainer_;
  CategoryBytes held_{};
  bool on_host_;
  Index saved_copy_ = 0;
};

// A message between two pipeline stages, whose ranks lie `tensor` apart on the nodes.
double stage_message_s(const Hardware& hardware, const dist::MeshExtents& extents, int from, int to, double bytes);

// The step that the works of one rank of each stage make on the job's schedule.
StepTime planned_time(const PlanRequest& request, const Hardware& hardware,
                      const std::vector<const std::vector<WorkTime>*>& works, double message_bytes);

// How the job uses the hardware that its clock is for.
ClockSettings clock_settings(const PlanRequest& request);

}  // namespace lorashard::core
