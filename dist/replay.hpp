// All stages' lists of a schedule executed against a clock instead of a machine.
#pragma once

#include <functional>
#include <vector>

#include "dist/schedule.hpp"

namespace lorashard::dist {

struct Timed {
  Action action;
  double start = 0;
  double end = 0;
};

// How long an action occupies its stage.
using Duration = std::function<double(int stage, const Action& action)>;

struct Timing {
  Duration duration;
  // From the end of a send until its message is there, beside what the stage does next; a receive ends no earlier.
  Duration travel = [](int, const Action&) { return 0.0; };
  // False for actions that this job leaves out (nothing below trains, so no gradient is sent).
  std::function<bool(int stage, const Action& action)> happens = [](int, const Action&) { return true; };
};

// Per stage its actions in order, each as early as the stage and its message allow, from time 0. Throws Failure::other
// naming the stage and the action when the lists wait for each other.
std::vector<std::vector<Timed>> replay(const ScheduleShape& shape, const Timing& timing);

}  // namespace lorashard::dist
