// Executes a schedule's list of actions on this rank's model parts.
//
// A send's tensor is kept until the next send in the same direction, or the end of the step, has waited for it: one
// output a direction is on its way at any time, whatever the network's timing, so that memory is a function of the
// schedule alone. (tests/dist shows for every schedule that this bound cannot deadlock.)
#pragma once

#include <map>
#include <memory>
#include <span>
#include <vector>

#include "core/model.hpp"
#include "dist/schedule.hpp"

namespace lorashard::core {

class Pipeline {
 public:
  Pipeline(const Context& context, Parameters& parameters, const TrainingPlan& plan, const MeshConfig& mesh);

  // Forward and backward of all microbatches of a step; gradients are added to the parameters'. Returns the sum of the
  // losses of scored tokens, 0 on ranks without the head.
  double train(std::span<const Microbatch> microbatches);
  // Forward only. Returns as train does.
  double evaluate(const Microbatch& microbatch);

 private:
  struct Held {
    Tensor data;
    std::unique_ptr<dist::Pending> pending;  // destroyed, and so waited for, before data
  };
  void run(const dist::Action& action, const Microbatch& microbatch);
  void send(const dist::Action& action, Tensor data);
  Activation receive(const dist::Action& action, const Microbatch& microbatch);
  void finish_sends();

  const Context& context_;
  dist::ScheduleShape shape_;
  std::vector<ModelPart> parts_;
  // While a step runs.
  std::map<std::pair<int, int>, ModelPart::Saved> saved_;  // by (chunk, microbatch)
  Activation in_, out_;
  Held held_forward_, held_backward_;
  double loss_sum_ = 0;
};

}  // namespace lorashard::core
