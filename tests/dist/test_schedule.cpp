// Every schedule of 1..8 stages, 1..32 microbatches and 1..4 chunks, executed here by stages that send without waiting
// and receive waiting; what theory says about order, memory and idle time is then exact, not a bound.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "dist/replay.hpp"
#include "kernels/error.hpp"

namespace lorashard::dist {
namespace {

std::string to_string(const ScheduleShape& shape) {
  return std::string(name(shape.kind)) + " stages " + std::to_string(shape.stages) + " microbatches " +
         std::to_string(shape.microbatches) + " chunks " + std::to_string(shape.chunks);
}

template <class Act>
void for_all_shapes(const Act& act) {
  for (int stages = 1; stages <= 8; ++stages)
    for (int microbatches = 1; microbatches <= 32; ++microbatches) {
      act({ScheduleKind::gpipe, stages, microbatches, 1});
      act({ScheduleKind::one_f_one_b, stages, microbatches, 1});
      for (int chunks = 1; chunks <= 4; ++chunks) act({ScheduleKind::interleaved, stages, microbatches, chunks});
    }
}

// Runs all lists and keeps count. A message is (receiving stage, receiving part, microbatch, backward): written from
// the definition of the parts, not with route().
class Machine {
 public:
  explicit Machine(const ScheduleShape& shape) : shape_(shape), next_(shape.stages, 0) {
    for (int stage = 0; stage < shape.stages; ++stage) lists_.push_back(make_schedule(shape, stage));
  }

  // Empty when all went well.
  std::string run() {
    for (bool moved = true; moved;) {
      moved = false;
      for (int stage = 0; stage < shape_.stages; ++stage)
        while (next_[stage] < lists_[stage].size() && step(stage, lists_[stage][next_[stage]])) {
          ++next_[stage];
          moved = true;
        }
      if (!error_.empty()) return error_;
    }
    for (int stage = 0; stage < shape_.stages; ++stage)
      if (next_[stage] < lists_[stage].size()) return "deadlock at stage " + std::to_string(stage);
    const std::size_t units = static_cast<std::size_t>(shape_.microbatches) * shape_.stages * shape_.chunks;
    if (forwards_.size() != units || backwards_.size() != units) return "a forward or backward is missing";
    if (!messages_.empty()) return "a message was never received";
    return "";
  }

 private:
  using Unit = std::pair<int, int>;  // microbatch, model part
  using Message = std::tuple<int, int, int, bool>;

  bool step(int stage, const Action& action) {
    const int part = action.chunk * shape_.stages + stage;
    const int last = shape_.stages * shape_.chunks - 1;
    const Unit unit{action.microbatch, part};
    switch (action.kind) {
      case ActionKind::receive_forward: return receive({stage, part, action.microbatch, false});
      case ActionKind::receive_backward: return receive({stage, part, action.microbatch, true});
      case ActionKind::forward:
        expect(part == 0 || inbox_ == Message{stage, part, action.microbatch, false}, "forward without its input");
        expect(forwards_.insert(unit).second, "forward twice");
        break;
      case ActionKind::backward:
        expect(part == last || inbox_ == Message{stage, part, action.microbatch, true}, "backward without its input");
        expect(forwards_.count(unit) == 1, "backward before its forward");
        expect(backwards_.insert(unit).second, "backward twice");
        break;
      case ActionKind::send_forward:
        expect(previous_ == Action{ActionKind::forward, action.microbatch, action.chunk}, "send not after its forward");
        send({(part + 1) % shape_.stages, part + 1, action.microbatch, false});
        break;
      case ActionKind::send_backward:
        expect(previous_ == Action{ActionKind::backward, action.microbatch, action.chunk}, "send not after backward");
        send({(part - 1) % shape_.stages, part - 1, action.microbatch, true});
        break;
    }
    previous_ = action;
    return true;
  }

  void send(const Message& message) { expect(messages_.insert(message).second, "sent twice"); }
  bool receive(const Message& message) {
    if (messages_.erase(message) == 0) return false;
    inbox_ = message;
    return true;
  }
  void expect(bool holds, const char* what) {
    if (!holds && error_.empty()) error_ = what;
  }

  ScheduleShape shape_;
  std::vector<std::vector<Action>> lists_;
  std::vector<std::size_t> next_;
  std::set<Unit> forwards_, backwards_;
  std::set<Message> messages_;
  Message inbox_{-1, -1, -1, false};                      // the last message received, by the stage that runs
  Action previous_{ActionKind::receive_forward, -1, -1};  // the last action, of the stage that runs
  std::string error_;
};

TEST(Schedule, EveryShapeRunsEachUnitOnceWithoutDeadlock) {
  for_all_shapes([](const ScheduleShape& shape) { EXPECT_EQ(Machine(shape).run(), "") << to_string(shape); });
}

// Gradients are summed in this order, whatever the schedule.
TEST(Schedule, BackwardsOfAChunkRunInTheOrderOfTheMicrobatches) {
  for_all_shapes([](const ScheduleShape& shape) {
    for (int stage = 0; stage < shape.stages; ++stage) {
      std::vector<int> next(shape.chunks, 0);
      for (const Action& action : make_schedule(shape, stage))
        if (action.kind == ActionKind::backward) {
          EXPECT_EQ(action.microbatch, next[action.chunk]++) << to_string(shape);
        }
    }
  });
}

TEST(Schedule, RoutesAgreeOnBothSidesAndNeverMeet) {
  for_all_shapes([](const ScheduleShape& shape) {
    std::multiset<std::tuple<int, int, int>> sent, received;  // from, to, tag
    for (int stage = 0; stage < shape.stages; ++stage)
      for (const Action& action : make_schedule(shape, stage)) {
        if (action.kind == ActionKind::send_forward || action.kind == ActionKind::send_backward) {
          const Route to = route(shape, stage, action);
          sent.insert({stage, to.peer, to.tag});
        }
        if (action.kind == ActionKind::receive_forward || action.kind == ActionKind::receive_backward) {
          const Route from = route(shape, stage, action);
          received.insert({from.peer, stage, from.tag});
        }
      }
    EXPECT_TRUE(sent == received) << to_string(shape);
    std::set<std::tuple<int, int, int>> distinct(sent.begin(), sent.end());
    EXPECT_EQ(distinct.size(), sent.size()) << to_string(shape);
  });
  EXPECT_THROW(route({ScheduleKind::gpipe, 2, 1, 1}, 0, {ActionKind::receive_forward, 0, 0}), kernels::Error);
  EXPECT_THROW(route({ScheduleKind::gpipe, 2, 1, 1}, 1, {ActionKind::forward, 0, 0}), kernels::Error);
}

// GPipe holds all microbatches; 1F1B one for each stage from here to the last. Interleaved: the warm-up and one more,
// among the units of full groups; of a short group only the units that exist count (the most in any window as long).
int expected_peak(const ScheduleShape& shape, int stage) {
  if (shape.kind == ScheduleKind::gpipe) return shape.microbatches;
  if (shape.chunks == 1) return std::min(shape.microbatches, shape.stages - stage);
  const int window = 2 * (shape.stages - 1 - stage) + (shape.chunks - 1) * shape.stages + 1;
  if (shape.microbatches % shape.stages == 0) return std::min(shape.microbatches * shape.chunks, window);
  std::vector<int> exists;
  for (int first = 0; first < shape.microbatches; first += shape.stages)
    for (int chunk = 0; chunk < shape.chunks; ++chunk)
      for (int i = 0; i < shape.stages; ++i) exists.push_back(first + i < shape.microbatches);
  int peak = 0;
  for (std::size_t end = 0; end < exists.size(); ++end) {
    const std::size_t begin = end + 1 > static_cast<std::size_t>(window) ? end + 1 - window : 0;
    peak = std::max(peak, static_cast<int>(std::count(exists.begin() + begin, exists.begin() + end + 1, 1)));
  }
  return peak;
}

TEST(Schedule, PeakInFlightIsWhatTheorySays) {
  for_all_shapes([](const ScheduleShape& shape) {
    for (int stage = 0; stage < shape.stages; ++stage) {
      const int peak = peak_in_flight(make_schedule(shape, stage));
      EXPECT_EQ(peak, expected_peak(shape, stage)) << to_string(shape) << " stage " << stage;
      EXPECT_LE(peak, shape.microbatches * shape.chunks);
    }
  });
}

double makespan(const ScheduleShape& shape) {
  double end = 0;
  for (const auto& row : replay(shape, {.duration = [](int, const Action& action) {
         return action.kind == ActionKind::forward ? 1.0 : action.kind == ActionKind::backward ? 2.0 : 0.0;
       }}))
    end = std::max(end, row.back().end);
  return end;
}

// The bubble is (stages - 1) / (chunks * microbatches) of the work: Narayanan et al. 2021, section 2.2. A unit (a
// forward and a backward of one chunk) is 3 slots; exact for GPipe and 1F1B, and for interleaved with full groups.
TEST(Schedule, BubbleIsWhatTheorySays) {
  for_all_shapes([](const ScheduleShape& shape) {
    const int work = 3 * shape.microbatches * shape.chunks;
    const int ideal = work + 3 * (shape.stages - 1);
    const bool exact = shape.chunks == 1 || shape.microbatches % shape.stages == 0;
    if (exact)
      EXPECT_EQ(makespan(shape), ideal) << to_string(shape);
    else
      EXPECT_GE(makespan(shape), work) << to_string(shape);
  });
}

// A short group idles as if it were full, no longer.
TEST(Schedule, ShortGroupCostsNoMoreThanAFullOne) {
  for_all_shapes([](const ScheduleShape& shape) {
    ScheduleShape full = shape;
    full.microbatches = (shape.microbatches + shape.stages - 1) / shape.stages * shape.stages;
    EXPECT_LE(makespan(shape), makespan(full)) << to_string(shape);
  });
}

TEST(Schedule, ReplayCountsTransfers) {
  // Two stages, one microbatch; every action takes 1: F S | R F B S | R B on one line of dependencies.
  const auto rows = replay({ScheduleKind::gpipe, 2, 1, 1}, {.duration = [](int, const Action&) { return 1.0; }});
  EXPECT_EQ(rows[0].back().end, 8);
  EXPECT_EQ(rows[1].front().start, 2);
  EXPECT_EQ(rows[1].back().end, 6);
}

// A message that travels for 5 keeps the receiver waiting, not the sender.
TEST(Schedule, ReplayLetsMessagesTravel) {
  const auto rows = replay({ScheduleKind::gpipe, 2, 2, 1},
                           {.duration = [](int, const Action& action) { return action.kind == ActionKind::forward ? 1.0 : 0.0; },
                            .travel = [](int, const Action&) { return 5.0; }});
  // Stage 0: F0 S F1 S; stage 1: R (at 6) F0 R (at 7) F1.
  EXPECT_EQ(rows[0][2].action, (Action{ActionKind::forward, 1, 0}));
  EXPECT_EQ(rows[0][2].start, 1);
  EXPECT_EQ(rows[1][0].end, 6);
  EXPECT_EQ(rows[1][3].end, 8);
}

// A job whose first stage trains nothing sends it no gradient.
TEST(Schedule, ReplayLeavesOutWhatDoesNotHappen) {
  const auto rows = replay({ScheduleKind::one_f_one_b, 2, 2, 1},
                           {.duration = [](int stage, const Action& action) {
                              return action.kind == ActionKind::forward ? 1.0 : action.kind == ActionKind::backward && stage == 1 ? 2.0 : 0.0;
                            },
                            .happens = [](int, const Action& action) {
                              return action.kind != ActionKind::send_backward && action.kind != ActionKind::receive_backward;
                            }});
  EXPECT_EQ(rows[0].back().end, 2);  // both forwards, one after the other
  EXPECT_EQ(rows[1].back().end, 7);  // F0 B0 F1 B1 from 1 on
}

TEST(Schedule, Prints) {
  EXPECT_EQ(print_schedule({ScheduleKind::gpipe, 2, 3, 1}),
            "stage 0 F0 F1 F2 .  .  .  B0    B1    B2\n"
            "stage 1 .  F0 F1 F2 B0    B1    B2\n");
  EXPECT_EQ(print_schedule({ScheduleKind::one_f_one_b, 3, 3, 1}),
            "stage 0 F0 F1 F2 .  .  .  .  B0    .  B1    .  B2\n"
            "stage 1 .  F0 F1 .  .  B0    F2 B1    .  B2\n"
            "stage 2 .  .  F0 B0    F1 B1    F2 B2\n");
  EXPECT_EQ(print_schedule({ScheduleKind::interleaved, 2, 2, 2}),
            "stage 0 F0.0 F1.0 F0.1 F1.1 .    .    B0.1      .    B1.1      B0.0      B1.0\n"
            "stage 1 .    F0.0 F1.0 F0.1 B0.1      F1.1 B1.1      B0.0      B1.0\n");
}

TEST(Schedule, ImpossibleShapesAreRefused) {
  const auto refused = [](const ScheduleShape& shape, int stage) {
    try {
      make_schedule(shape, stage);
    } catch (const kernels::Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(refused({ScheduleKind::gpipe, 0, 1, 1}, 0), "schedule: stages = 0, expected at least 1");
  EXPECT_EQ(refused({ScheduleKind::gpipe, 1, 0, 1}, 0), "schedule: microbatches = 0, expected at least 1");
  EXPECT_EQ(refused({ScheduleKind::interleaved, 1, 1, 0}, 0), "schedule: chunks = 0, expected at least 1");
  EXPECT_EQ(refused({ScheduleKind::one_f_one_b, 2, 2, 2}, 0),
            "schedule: chunks = 2 with 1f1b, expected 1 (only interleaved has more)");
  EXPECT_EQ(refused({ScheduleKind::gpipe, 2, 1, 1}, 2), "schedule: stage 2 of 2");
}

}  // namespace
}  // namespace lorashard::dist
