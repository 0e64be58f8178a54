// A pipeline schedule is data: a pure function gives each rank its list of actions. The trainer executes the list, the
// planner replays the same list against a clock.
//
//   gpipe        all forwards, then all backwards; Huang et al. 2019 (arXiv 1811.06965)
//   1f1b         warm-up of stages - 1 - stage forwards, then one forward and one backward in turns;
//                Narayanan et al. 2019 (PipeDream)
//   interleaved  each rank holds `chunks` parts of the model (part c of rank r is model part c * stages + r), which
//                shrinks the bubble by `chunks`; Narayanan et al. 2021 (arXiv 2104.04473), section 2.2. Any number of
//                microbatches: the last group of `stages` microbatches may be short. With one chunk it is 1f1b.
//
// All of them run the backwards of a chunk in the order of the microbatches, so gradients are summed in one order and
// are bit for bit the same under any schedule.
#pragma once

#include <string>
#include <vector>

namespace lorashard::dist {

enum class ScheduleKind { gpipe, one_f_one_b, interleaved };
const char* name(ScheduleKind kind);

enum class ActionKind { receive_forward, forward, send_forward, receive_backward, backward, send_backward };
const char* name(ActionKind kind);

// `chunk` counts this rank's own model parts. A receive comes right before the forward or backward that uses it, a send
// right after the one that made it.
struct Action {
  ActionKind kind;
  int microbatch = 0;
  int chunk = 0;
  auto operator<=>(const Action&) const = default;
};

struct ScheduleShape {
  ScheduleKind kind = ScheduleKind::one_f_one_b;
  int stages = 1;
  int microbatches = 1;
  int chunks = 1;  // 1 unless interleaved
};

// Throws Failure::configuration for extents below 1, or chunks without interleaving.
std::vector<Action> make_schedule(const ScheduleShape& shape, int stage);

// Most forwards of any chunk whose backward has not run yet, at any time, on this stage: what activations are held.
int peak_in_flight(const std::vector<Action>& actions);

// Where a send or receive of `stage` goes: the peer on the pipeline axis and a tag that is the same on both sides and
// differs between all messages of a step. Part c on the last stage is followed by part c + 1 on stage 0; with one stage
// the peer is the stage itself.
struct Route {
  int peer = 0;
  int tag = 0;
};
Route route(const ScheduleShape& shape, int stage, const Action& action);

// One line per stage, "F0 F1 B0 ..." in time order, placed on a common clock where a forward takes 1 slot and a
// backward 2; "." is an idle slot. With chunks, F3.1 is microbatch 3 of chunk 1.
std::string print_schedule(const ScheduleShape& shape);

}  // namespace lorashard::dist
