// Executes a schedule's list of actions on this rank's model parts.
//
// A send's tensor is kept until the next send in the same direction, or the end of the step, has waited for it: one
// output a direction is on its way at any time, whatever the network's timing, so that memory is a function of the
// schedule alone. (tests/dist shows for every schedule that this bound cannot deadlock.)
#pragma once

#include <array>
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
  enum class Direction { forward, backward };
  struct Held {
    Tensor data;
    std::unique_ptr<dist::Pending> pending;  // destroyed, and so waited for, before data
  };
  int part_of(int chunk) const;
  void run(const dist::Action& action, const Microbatch& microbatch);
  void send(Direction direction, Tensor data, int microbatch, int part);
  Activation receive(Direction direction, const Microbatch& microbatch, int index, int part);
  void finish_sends();

  const Context& context_;
  dist::ScheduleShape shape_;
  std::vector<ModelPart> parts_;
  // While a step runs.
  std::map<std::pair<int, int>, ModelPart::Saved> saved_;  // by (chunk, microbatch)
  Activation in_, out_;
  std::array<Held, 2> held_;
  double loss_sum_ = 0;
};

}  // namespace lorashard::core
