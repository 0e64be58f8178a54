#include "dist/replay.hpp"

#include <algorithm>
#include <map>

#include "kernels/error.hpp"

namespace lorashard::dist {

using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

bool sends(const Action& action) {
  return action.kind == ActionKind::send_forward || action.kind == ActionKind::send_backward;
}
bool receives(const Action& action) {
  return action.kind == ActionKind::receive_forward || action.kind == ActionKind::receive_backward;
}

class Clock {
 public:
  Clock(const ScheduleShape& shape, const Timing& timing) : shape_(shape), timing_(timing) {
    for (int stage = 0; stage < shape.stages; ++stage) {
      lists_.push_back(make_schedule(shape, stage));
      std::erase_if(lists_.back(), [&](const Action& action) { return !timing.happens(stage, action); });
      done_.emplace_back();
    }
  }

  std::vector<std::vector<Timed>> run() {
    for (bool moved = true; moved;) {
      moved = false;
      for (int stage = 0; stage < shape_.stages; ++stage)
        while (advance(stage)) moved = true;
    }
    for (int stage = 0; stage < shape_.stages; ++stage)
      if (const std::size_t next = done_[stage].size(); next < lists_[stage].size()) {
        const Action& action = lists_[stage][next];
        fail(Failure::other, text("schedule ", name(shape_.kind), " deadlocks: stage ", stage, " waits in ",
                                  name(action.kind), " of microbatch ", action.microbatch, ", chunk ", action.chunk));
      }
    return std::move(done_);
  }

 private:
  // Takes the stage's next action; false when there is none or its message has not been sent.
  bool advance(int stage) {
    std::vector<Timed>& done = done_[stage];
    if (done.size() == lists_[stage].size()) return false;
    const Action& action = lists_[stage][done.size()];
    double start = done.empty() ? 0 : done.back().end;
    if (receives(action)) {
      const auto message = sent_.find({stage, route(shape_, stage, action).tag});
      if (message == sent_.end()) return false;
      start = std::max(start, message->second);
      sent_.erase(message);
    }
    const double end = start + timing_.duration(stage, action);
    if (sends(action)) {
      const Route to = route(shape_, stage, action);
      sent_[{to.peer, to.tag}] = end + timing_.travel(stage, action);
    }
    done.push_back({action, start, end});
    return true;
  }

  const ScheduleShape shape_;
  const Timing& timing_;
  std::vector<std::vector<Action>> lists_;
  std::vector<std::vector<Timed>> done_;
  std::map<std::pair<int, int>, double> sent_;  // (receiving stage, tag) -> when it is there
};

}  // namespace

std::vector<std::vector<Timed>> replay(const ScheduleShape& shape, const Timing& timing) {
  return Clock(shape, timing).run();
}

}  // namespace lorashard::dist
