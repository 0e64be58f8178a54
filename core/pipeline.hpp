// Executes a schedule's list of actions on this rank's model parts.
//
// A send's tensor is kept until the next send in the same direction, or the end of the step, has waited for it: one
// output a direction is on its way at any time, whatever the network's timing, so that memory is a function of the
// schedule alone. (tests/dist shows for every schedule that this bound cannot deadlock.) A receive begins one forward or
// backward ahead of its turn, so that it comes in beside that work.
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

  // Forward and backward of all microbatches of a step; gradients are added to the parameters'. The losses of scored
  // tokens are added to `loss_total` (1,1) f64 on ranks with the head. `done` is told of each layer whose gradients of
  // the whole step are queued.
  void train(std::span<const Microbatch> microbatches, Matrix loss_total, const ModelPart::LayerDone& done);
  // Forward only; the loss as in train.
  void evaluate(const Microbatch& microbatch, Matrix loss_total);

 private:
  struct Held {
    Tensor data;
    std::unique_ptr<dist::Pending> pending;  // destroyed, and so waited for, before data
  };
  // What the actions of a step share.
  struct Step {
    std::span<const Microbatch> microbatches;
    Matrix loss_total;
    const ModelPart::LayerDone& done;
  };
  void run(const dist::Action& action, const Step& step);
  void backward(const dist::Action& action, const Step& step);
  void send(const dist::Action& action, Tensor data);
  // False for messages that are not sent, since nothing below trains.
  bool comes(const dist::Action& action) const;
  void begin_receive(const dist::Action& action, const Microbatch& microbatch);
  Activation receive(const dist::Action& action, const Microbatch& microbatch);
  void finish_sends();

  const Context& context_;
  dist::ScheduleShape shape_;
  std::vector<ModelPart> parts_;
  // While a step runs.
  std::map<std::pair<int, int>, ModelPart::Saved> saved_;  // by (chunk, microbatch)
  Activation in_, out_;
  Held held_forward_, held_backward_, incoming_;
};

}  // namespace lorashard::core
