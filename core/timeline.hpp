// A step of all pipeline stages on one clock: the lists of actions that the trainer executes, each as long as the work
// that was counted for it on that stage. Data ranks run alike, and a tensor group in step, so one rank stands for a
// stage.
//
// After its last action a stage waits for the gradient sums that were started beside its backward pass, finishes the
// rest, and waits for all stages: the update needs the norm over all of them.
#pragma once

#include <functional>

#include "core/clock.hpp"
#include "dist/replay.hpp"

namespace lorashard::core {

struct TimelineInput {
  dist::ScheduleShape shape;
  std::vector<const std::vector<WorkTime>*> stages;  // Clock::works() of a rank of each stage
  dist::Duration travel;                             // as in dist::Timing
  std::function<bool(int stage, const dist::Action&)> happens;
  bool hides_sums = true;  // that were started; else they wait for the stage's last action
};

struct Span {
  std::string work;
  int number = 0, part = 0;
  double start_s = 0, end_s = 0;
};

// Seconds of a step, mean over stages: parts + message_s + bubble_s = step_s.
struct StepTime {
  double step_s = 0;
  Parts parts{};                         // data: with what of the started sums did not fit beside the backward pass
  double message_s = 0;                  // waiting that instant messages would save
  double bubble_s = 0;                   // waiting for work of other stages
  double again_s = 0;                    // of the parts: recomputed
  double hidden_s = 0;                   // sums that ran beside the backward pass, in no other figure
  std::vector<std::vector<Span>> lanes;  // by stage, in time order
};

StepTime time_step(const TimelineInput& input);

}  // namespace lorashard::core
