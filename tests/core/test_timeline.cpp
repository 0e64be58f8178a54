// A step on the pipeline's clock, from works of round lengths.
#include <gtest/gtest.h>

#include "core/timeline.hpp"

namespace lorashard::core {
namespace {

// Every forward takes 1 s of products, every backward 2 s, on every stage and part.
struct Job {
  dist::ScheduleShape shape;
  double travel_s = 0, reduce_s = 0, update_s = 0;
  std::vector<WorkTime::Started> sums;  // in the last backward pass
  bool hides_sums = true;

  StepTime time() const {
    std::vector<std::vector<WorkTime>> works(shape.stages);
    for (auto& stage : works) {
      stage.push_back(work("clear", 0, 0, 0));
      for (int m = 0; m < shape.microbatches; ++m)
        for (int c = 0; c < shape.chunks; ++c) {
          stage.push_back(work("forward", m, c, 1));
          stage.push_back(work("backward", m, c, 2));
          if (m + 1 == shape.microbatches && c == 0) stage.back().started = sums;
        }
      stage.push_back(work("reduce", 0, 0, reduce_s));
      stage.push_back(work("update", 0, 0, update_s));
    }
    TimelineInput input;
    input.shape = shape;
    for (const auto& stage : works) input.stages.push_back(&stage);
    input.travel = [this](int, const dist::Action&) { return travel_s; };
    input.happens = [](int, const dist::Action&) { return true; };
    input.hides_sums = hides_sums;
    return time_step(input);
  }
  static WorkTime work(const char* name, int number, int part, double seconds) {
    WorkTime w{name, number, part, {}, 0, {}};
    w.seconds[static_cast<int>(Part::products)] = seconds;
    return w;
  }
};

double part(const StepTime& time, Part p) { return time.parts[static_cast<int>(p)]; }

void expect_adds_up(const StepTime& time) {
  EXPECT_NEAR(sum_of(time.parts) + time.message_s + time.bubble_s, time.step_s, 1e-12);
}

using dist::ScheduleKind;

TEST(Timeline, BubbleIsWhatTheorySays) {
  for (const int stages : {1, 2, 4})
    for (const int chunks : {1, 2}) {
      Job job{
          {chunks > 1 ? ScheduleKind::interleaved : ScheduleKind::one_f_one_b, stages, 8, chunks}, 0, 0.5, 0.25, {}};
      const StepTime time = job.time();
      EXPECT_NEAR(time.bubble_s, 3 * (stages - 1), 1e-12);  // (p - 1) / (chunks m) of 3 chunks m
      EXPECT_NEAR(part(time, Part::products), 24 * chunks + 0.75, 1e-12);
      EXPECT_EQ(time.message_s, 0);
      expect_adds_up(time);
    }
}

TEST(Timeline, MessagesThatTravelAreNoBubble) {
  Job job{{ScheduleKind::gpipe, 3, 1, 1}, 0.5, 0, 0, {}};
  const StepTime time = job.time();
  EXPECT_NEAR(time.step_s, 3 * 3 + 4 * 0.5, 1e-12);  // two messages forward, two back
  EXPECT_NEAR(time.message_s, 2, 1e-12);
  EXPECT_NEAR(time.bubble_s, 6, 1e-12);
  expect_adds_up(time);
}

// The last backward pass takes 2 s; sums begin 0.5 s and 1.5 s into it.
TEST(Timeline, SumsBesideTheBackwardPassAreHidden) {
  Job job{{ScheduleKind::one_f_one_b, 1, 2, 1}, 0, 0.1, 0.1, {{0.5, 0.75}, {1.5, 0.25}}};
  const StepTime hidden = job.time();
  EXPECT_NEAR(hidden.step_s, 6.2, 1e-12);
  EXPECT_NEAR(hidden.hidden_s, 1, 1e-12);
  EXPECT_EQ(part(hidden, Part::data), 0);
  expect_adds_up(hidden);

  job.sums = {{0.5, 1.25}, {1.5, 0.75}};  // the second waits for the first: ends 2.5 s in
  const StepTime exposed = job.time();
  EXPECT_NEAR(exposed.step_s, 6.7, 1e-12);
  EXPECT_NEAR(part(exposed, Part::data), 0.5, 1e-12);
  EXPECT_NEAR(exposed.hidden_s, 1.5, 1e-12);
  expect_adds_up(exposed);

  job.hides_sums = false;
  const StepTime after = job.time();
  EXPECT_NEAR(after.step_s, 8.2, 1e-12);
  EXPECT_NEAR(part(after, Part::data), 2, 1e-12);
  EXPECT_EQ(after.hidden_s, 0);
  expect_adds_up(after);
}

TEST(Timeline, LanesHaveEveryWorkInOrder) {
  Job job{{ScheduleKind::one_f_one_b, 2, 3, 1}, 0.25, 1, 1, {}};
  const StepTime time = job.time();
  ASSERT_EQ(time.lanes.size(), 2u);
  for (const auto& lane : time.lanes) {
    ASSERT_EQ(lane.size(), 8u);  // three forwards, three backwards, reduce, update
    for (std::size_t i = 1; i < lane.size(); ++i) EXPECT_GE(lane[i].start_s, lane[i - 1].end_s - 1e-12);
    EXPECT_NEAR(lane.back().end_s, time.step_s, 1e-12);  // all update together
  }
}

TEST(Timeline, WorkThatIsMissingIsNamed) {
  const std::vector<WorkTime> works{Job::work("clear", 0, 0, 0), Job::work("forward", 0, 0, 1)};
  TimelineInput input{{ScheduleKind::gpipe, 1, 1, 1},
                      {&works},
                      [](int, const dist::Action&) { return 0.0; },
                      [](int, const dist::Action&) { return true; }};
  try {
    time_step(input);
    ADD_FAILURE() << "no error";
  } catch (const kernels::Error& error) {
    EXPECT_STREQ(error.what(), "timeline: no time for backward");
  }
}

}  // namespace
}  // namespace lorashard::core
