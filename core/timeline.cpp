#include "core/timeline.hpp"

#include <algorithm>
#include <map>

#include "kernels/error.hpp"

namespace lorashard::core {

using dist::Action;
using dist::ActionKind;

namespace {

// A stage's works: those of the schedule's actions by (chunk, microbatch), the others by name.
class StageWorks {
 public:
  StageWorks(const std::vector<WorkTime>& works, const dist::ScheduleShape& shape) : microbatches_(shape.microbatches) {
    const std::size_t units = static_cast<std::size_t>(shape.microbatches) * static_cast<std::size_t>(shape.chunks);
    forward_.resize(units);
    backward_.resize(units);
    for (const WorkTime& work : works) {
      if (work.work == "forward")
        forward_.at(at(work.part, work.number)) = &work;
      else if (work.work == "backward")
        backward_.at(at(work.part, work.number)) = &work;
      else
        others_[work.work] = &work;
    }
  }
  const WorkTime& of(const Action& action) const {
    const auto& works = action.kind == ActionKind::forward ? forward_ : backward_;
    return known(works.at(at(action.chunk, action.microbatch)), dist::name(action.kind));
  }
  const WorkTime& of(const char* work) const {
    const auto found = others_.find(work);
    return known(found == others_.end() ? nullptr : found->second, work);
  }

 private:
  std::size_t at(int chunk, int microbatch) const {
    return static_cast<std::size_t>(chunk) * static_cast<std::size_t>(microbatches_) +
           static_cast<std::size_t>(microbatch);
  }
  static const WorkTime& known(const WorkTime* work, const char* name) {
    if (work == nullptr) kernels::fail(kernels::Failure::other, kernels::text("timeline: no time for ", name));
    return *work;
  }

  int microbatches_;
  std::vector<const WorkTime*> forward_, backward_;
  std::map<std::string, const WorkTime*> others_;
};

bool computes(const Action& action) {
  return action.kind == ActionKind::forward || action.kind == ActionKind::backward;
}

// One stage from the first action to the end of its reduction.
struct StageEnd {
  double actions_s = 0;  // when its last action ends
  double sums_s = 0;     // when the sums that were started are done
  double all_s = 0;      // when its gradients are finished
};

class Timeline {
 public:
  explicit Timeline(const TimelineInput& input) : input_(input) {
    for (const auto* works : input.stages) stages_.emplace_back(*works, input.shape);
  }

  StepTime run() {
    const auto rows = replayed(input_.travel);
    StepTime time;
    std::vector<StageEnd> ends;
    for (int stage = 0; stage < input_.shape.stages; ++stage) ends.push_back(end_of(stage, rows[stage], time));
    const auto last = std::max_element(ends.begin(), ends.end(), by_end);
    double update_s = 0;
    for (const StageWorks& works : stages_) update_s = std::max(update_s, sum_of(works.of("update").seconds));
    time.step_s = last->all_s + update_s;
    double work_s = 0;
    for (int stage = 0; stage < input_.shape.stages; ++stage) {
      add_lane(stage, rows[stage], ends[stage], last->all_s, time);
      add_parts(stage, ends[stage], time);
    }
    for (double& part : time.parts) work_s += part /= input_.shape.stages;
    time.again_s /= input_.shape.stages;
    time.hidden_s /= input_.shape.stages;
    // With messages that take no time only the bubble is left of the waiting.
    const double waiting_s = std::max(0.0, time.step_s - work_s);
    time.message_s =
        std::clamp(last->actions_s - last_action(replayed([](int, const Action&) { return 0.0; })), 0.0, waiting_s);
    time.bubble_s = waiting_s - time.message_s;
    return time;
  }

 private:
  using Rows = std::vector<std::vector<dist::Timed>>;
  static bool by_end(const StageEnd& a, const StageEnd& b) { return a.all_s < b.all_s; }

  Rows replayed(const dist::Duration& travel) const {
    const auto duration = [this](int stage, const Action& action) {
      return computes(action) ? sum_of(stages_[stage].of(action).seconds) : 0.0;
    };
    Rows rows = dist::replay(input_.shape, {duration, travel, input_.happens});
    for (int stage = 0; stage < input_.shape.stages; ++stage) {
      const double clear_s = sum_of(stages_[stage].of("clear").seconds);
      for (dist::Timed& timed : rows[stage]) timed.start += clear_s, timed.end += clear_s;
    }
    return rows;
  }

  static double last_action(const Rows& rows) {
    double last = 0;
    for (const auto& row : rows)
      if (!row.empty()) last = std::max(last, row.back().end);
    return last;
  }

  // Sums are made one after the other, on a stream of their own.
  StageEnd end_of(int stage, const std::vector<dist::Timed>& row, StepTime& time) const {
    StageEnd end;
    double hidden_s = 0;
    for (const dist::Timed& timed : row) end.actions_s = std::max(end.actions_s, timed.end);
    for (const dist::Timed& timed : row) {
      if (!computes(timed.action)) continue;
      for (const WorkTime::Started& sum : stages_[stage].of(timed.action).started) {
        const double ready_s = input_.hides_sums ? timed.start + sum.after_s : end.actions_s;
        end.sums_s = std::max(end.sums_s, ready_s) + sum.seconds;
        hidden_s += sum.seconds;
      }
    }
    const WorkTime& reduce = stages_[stage].of("reduce");
    for (const WorkTime::Started& sum : reduce.started) {  // what no layer completed
      end.sums_s = std::max(end.sums_s, end.actions_s + sum.after_s) + sum.seconds;
      hidden_s += sum.seconds;
    }
    end.all_s = std::max(end.sums_s, end.actions_s) + sum_of(reduce.seconds);
    time.hidden_s += std::max(0.0, hidden_s - exposed(end));
    return end;
  }
  static double exposed(const StageEnd& end) { return std::max(0.0, end.sums_s - end.actions_s); }

  void add_parts(int stage, const StageEnd& end, StepTime& time) const {
    for (const WorkTime& work : *input_.stages[stage]) {
      for (int part = 0; part < kPartCount; ++part) time.parts[part] += work.seconds[part];
      time.again_s += work.again_s;
    }
    time.parts[static_cast<int>(Part::data)] += exposed(end);
  }

  void add_lane(int stage, const std::vector<dist::Timed>& row, const StageEnd& end, double update_at,
                StepTime& time) const {
    std::vector<Span> lane;
    if (const double clear_s = sum_of(stages_[stage].of("clear").seconds); clear_s > 0)
      lane.push_back({"clear", 0, 0, 0, clear_s});
    for (const dist::Timed& timed : row)
      if (computes(timed.action) && timed.end > timed.start)
        lane.push_back({stages_[stage].of(timed.action).work, timed.action.microbatch, timed.action.chunk, timed.start,
                        timed.end});
    lane.push_back({"reduce", 0, 0, end.actions_s, end.all_s});
    lane.push_back({"update", 0, 0, update_at, update_at + sum_of(stages_[stage].of("update").seconds)});
    time.lanes.push_back(std::move(lane));
  }

  const TimelineInput& input_;
  std::vector<StageWorks> stages_;
};

}  // namespace

StepTime time_step(const TimelineInput& input) { return Timeline(input).run(); }

}  // namespace lorashard::core
