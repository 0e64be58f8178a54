// The pipeline keeps one outgoing tensor a direction and waits for it before the next send (core/pipeline.hpp). Here all
// stages of every small schedule run under that rule: none may wait for ever.
#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <set>
#include <tuple>

#include "dist/schedule.hpp"

namespace lorashard::dist {
namespace {

using Message = std::tuple<int, int, int>;  // direction, microbatch, part it enters

class Machine {
 public:
  explicit Machine(const ScheduleShape& shape) : shape_(shape), at_(shape.stages), held_(shape.stages) {
    for (int stage = 0; stage < shape.stages; ++stage) lists_.push_back(make_schedule(shape, stage));
  }

  bool finishes() {
    for (bool moved = true; moved;) {
      moved = false;
      for (int stage = 0; stage < shape_.stages; ++stage) {
        while (at_[stage] < lists_[stage].size() && run(stage, lists_[stage][at_[stage]])) {
          ++at_[stage];
          moved = true;
        }
      }
    }
    for (int stage = 0; stage < shape_.stages; ++stage) {
      if (at_[stage] < lists_[stage].size()) return false;
    }
    return true;
  }

 private:
  bool run(int stage, const Action& action) {
    const int part = action.chunk * shape_.stages + stage;
    switch (action.kind) {
      case ActionKind::receive_forward: return receive({0, action.microbatch, part});
      case ActionKind::receive_backward: return receive({1, action.microbatch, part});
      case ActionKind::send_forward: return send(stage, {0, action.microbatch, part + 1});
      case ActionKind::send_backward: return send(stage, {1, action.microbatch, part - 1});
      default: return true;
    }
  }
  bool receive(const Message& message) {
    if (!sent_.count(message)) return false;
    received_.insert(message);
    return true;
  }
  bool send(int stage, const Message& message) {
    std::optional<Message>& held = held_[stage][std::get<0>(message)];
    const bool to_itself = shape_.stages == 1;  // such a message is copied when its sender waits
    if (held && !received_.count(*held) && !to_itself) return false;
    held = message;
    sent_.insert(message);
    return true;
  }

  ScheduleShape shape_;
  std::vector<std::vector<Action>> lists_;
  std::vector<std::size_t> at_;
  std::vector<std::array<std::optional<Message>, 2>> held_;
  std::set<Message> sent_, received_;
};

TEST(ScheduleBuffers, OneOutgoingTensorADirectionIsEnough) {
  for (ScheduleKind kind : {ScheduleKind::gpipe, ScheduleKind::one_f_one_b, ScheduleKind::interleaved}) {
    const int most_chunks = kind == ScheduleKind::interleaved ? 4 : 1;
    for (int stages = 1; stages <= 8; ++stages) {
      for (int microbatches = 1; microbatches <= 32; ++microbatches) {
        for (int chunks = 1; chunks <= most_chunks; ++chunks) {
          EXPECT_TRUE(Machine({kind, stages, microbatches, chunks}).finishes())
              << name(kind) << " " << stages << " stages, " << microbatches << " microbatches, " << chunks << " chunks";
        }
      }
    }
  }
}

}  // namespace
}  // namespace lorashard::dist
