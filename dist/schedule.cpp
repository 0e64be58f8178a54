#include "dist/schedule.hpp"

#include <algorithm>

#include "dist/replay.hpp"
#include "kernels/error.hpp"

namespace lorashard::dist {

using kernels::fail;
using kernels::Failure;
using kernels::text;

const char* name(ScheduleKind kind) {
  switch (kind) {
    case ScheduleKind::gpipe: return "gpipe";
    case ScheduleKind::one_f_one_b: return "1f1b";
    case ScheduleKind::interleaved: return "interleaved";
  }
  return "unknown";
}

const char* name(ActionKind kind) {
  switch (kind) {
    case ActionKind::receive_forward: return "receive_forward";
    case ActionKind::forward: return "forward";
    case ActionKind::send_forward: return "send_forward";
    case ActionKind::receive_backward: return "receive_backward";
    case ActionKind::backward: return "backward";
    case ActionKind::send_backward: return "send_backward";
  }
  return "unknown";
}

namespace {

void check(const ScheduleShape& shape, int stage) {
  const auto least = [](const char* what, int found) {
    if (found < 1) fail(Failure::configuration, text("schedule: ", what, " = ", found, ", expected at least 1"));
  };
  least("stages", shape.stages);
  least("microbatches", shape.microbatches);
  least("chunks", shape.chunks);
  if (shape.chunks > 1 && shape.kind != ScheduleKind::interleaved)
    fail(Failure::configuration, text("schedule: chunks = ", shape.chunks, " with ", name(shape.kind),
                                      ", expected 1 (only interleaved has more)"));
  if (stage < 0 || stage >= shape.stages) fail(Failure::other, text("schedule: stage ", stage, " of ", shape.stages));
}

// Forwards before the first backward. With chunks, after Megatron-LM's forward_backward_pipelining_with_interleaving:
// every later stage starts its backwards two units earlier, since a unit's forward and its backward cross it.
int warm_up(const ScheduleShape& shape, int stage, int units) {
  const int later = shape.stages - 1 - stage;
  if (shape.kind == ScheduleKind::gpipe) return units;
  if (shape.chunks == 1) return std::min(units, later);
  return std::min(units, 2 * later + (shape.chunks - 1) * shape.stages);
}

class Maker {
 public:
  Maker(const ScheduleShape& shape, int stage) : shape_(shape), stage_(stage) {}

  // The list of the next full number of groups, less the microbatches that do not exist. Leaving a microbatch out takes
  // whole chains of dependencies away and keeps the order of the rest, so a short group cannot deadlock either.
  std::vector<Action> make() {
    const int groups = (shape_.microbatches + shape_.stages - 1) / shape_.stages;
    const int units = groups * shape_.stages * shape_.chunks;
    const int ahead = warm_up(shape_, stage_, units);
    for (int k = 0; k < units + ahead; ++k) {
      if (k < units) add_forward(k);
      if (k >= ahead) add_backward(k - ahead);
    }
    return std::move(actions_);
  }

 private:
  // Unit k is one microbatch through one chunk: `stages` microbatches through chunk 0, the same through chunk 1, ...
  int microbatch_of(int k) const { return k / (shape_.stages * shape_.chunks) * shape_.stages + k % shape_.stages; }
  int chunk_of(int k) const { return k / shape_.stages % shape_.chunks; }

  void add_forward(int k) {
    const int microbatch = microbatch_of(k), chunk = chunk_of(k);
    if (microbatch >= shape_.microbatches) return;
    if (!first_part(chunk)) actions_.push_back({ActionKind::receive_forward, microbatch, chunk});
    actions_.push_back({ActionKind::forward, microbatch, chunk});
    if (!last_part(chunk)) actions_.push_back({ActionKind::send_forward, microbatch, chunk});
  }

  void add_backward(int k) {
    const int microbatch = microbatch_of(k), chunk = shape_.chunks - 1 - chunk_of(k);
    if (microbatch >= shape_.microbatches) return;
    if (!last_part(chunk)) actions_.push_back({ActionKind::receive_backward, microbatch, chunk});
    actions_.push_back({ActionKind::backward, microbatch, chunk});
    if (!first_part(chunk)) actions_.push_back({ActionKind::send_backward, microbatch, chunk});
  }

  bool first_part(int chunk) const { return stage_ == 0 && chunk == 0; }
  bool last_part(int chunk) const { return stage_ == shape_.stages - 1 && chunk == shape_.chunks - 1; }

  ScheduleShape shape_;
  int stage_;
  std::vector<Action> actions_;
};

}  // namespace

std::vector<Action> make_schedule(const ScheduleShape& shape, int stage) {
  check(shape, stage);
  return Maker(shape, stage).make();
}

int peak_in_flight(const std::vector<Action>& actions) {
  int held = 0, peak = 0;
  for (const Action& action : actions) {
    if (action.kind == ActionKind::forward) peak = std::max(peak, ++held);
    if (action.kind == ActionKind::backward) --held;
  }
  return peak;
}

Route route(const ScheduleShape& shape, int stage, const Action& action) {
  const int parts = shape.stages * shape.chunks;
  const int part = action.chunk * shape.stages + stage;
  // The part that receives, and the part it receives from.
  const auto message = [&](int receiver, int other, int direction) -> Route {
    if (receiver < 0 || receiver >= parts || other < 0 || other >= parts)
      fail(Failure::other, text("schedule: ", name(action.kind), " at part ", part, " of ", parts, " has no peer"));
    return {other % shape.stages, 2 * (action.microbatch * parts + receiver) + direction};
  };
  switch (action.kind) {
    case ActionKind::receive_forward: return message(part, part - 1, 0);
    case ActionKind::send_forward: return message(part + 1, part + 1, 0);
    case ActionKind::receive_backward: return message(part, part + 1, 1);
    case ActionKind::send_backward: return message(part - 1, part - 1, 1);
    default: fail(Failure::other, text("schedule: ", name(action.kind), " has no peer"));
  }
}

std::string print_schedule(const ScheduleShape& shape) {
  const auto label = [&](const Action& action) {
    const std::string unit = text(action.kind == ActionKind::forward ? "F" : "B", action.microbatch);
    return shape.chunks == 1 ? unit : text(unit, ".", action.chunk);
  };
  const auto slots = [](int, const Action& action) {
    return action.kind == ActionKind::forward ? 1.0 : action.kind == ActionKind::backward ? 2.0 : 0.0;
  };
  const std::size_t width = label({ActionKind::forward, shape.microbatches - 1, shape.chunks - 1}).size() + 1;
  std::string idle(width, ' ');
  idle[0] = '.';
  std::string page;
  int stage = 0;
  for (const std::vector<Timed>& row : replay(shape, {.duration = slots})) {
    std::string line = text("stage ", stage++, " ");
    const std::size_t start = line.size();
    for (const Timed& timed : row) {
      if (timed.action.kind != ActionKind::forward && timed.action.kind != ActionKind::backward) continue;
      while (line.size() < start + static_cast<std::size_t>(timed.start) * width) line.append(idle);
      line += label(timed.action);
      line.resize(start + static_cast<std::size_t>(timed.end) * width, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    page += line + "\n";
  }
  return page;
}

}  // namespace lorashard::dist
