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

// How long an action occupies its stage. What a send makes is there for the receive when the send ends; a receive
// starts no earlier than that.
using Duration = std::function<double(int stage, const Action& action)>;

// Per stage its actions in order, each as early as the stage and its message allow, from time 0. Throws Failure::other
// naming the stage and the action when the lists wait for each other.
std::vector<std::vector<Timed>> replay(const ScheduleShape& shape, const Duration& duration);

}  // namespace lorashard::dist
