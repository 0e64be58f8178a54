#include "launch/training.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>

#include "core/metrics.hpp"
#include "launch/event_file.hpp"
#include "launch/run_trace.hpp"
#include "launch/stop_signal.hpp"
#include "launch/together.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using core::Index;
using kernels::fail;
using kernels::Failure;
using kernels::text;
using Clock = std::chrono::steady_clock;

namespace {

std::vector<core::NamedLoss> evaluate(Session& session) {
  std::vector<core::NamedLoss> losses;
  outside_steps(session, [&] {
    for (const core::Dataset& set : session.data.valid)
      losses.push_back({set.path(), session.trainer.evaluate(set).loss});
  });
  return losses;
}

void say_losses(Progress& progress, Index step, const std::vector<core::NamedLoss>& losses) {
  for (const core::NamedLoss& each : losses)
    progress.say(text("step ", step, "  held out ", each.name, ": loss ", fixed_text(each.loss, 4), ", perplexity ",
                      fixed_text(std::exp(each.loss), 2)));
}

// What is due after `done` steps; both are after the last.
bool is_due(const core::Config& config, Index done, Index every) {
  return done == config.train.steps || (every > 0 && done % every == 0);
}
bool evaluates_after(const core::Config& config, Index done) {
  return is_due(config, done, config.train.evaluate_every);
}
bool saves_after(const core::Config& config, Index done) { return is_due(config, done, config.run.checkpoint_every); }

// Steps between two comparisons of the replicas, which are compared before each checkpoint too.
constexpr Index kReplicaCheck = 100;

// True when nothing but the next step is to come after `done` steps: no evaluation, no checkpoint, no end. Then that
// step is begun before the one in hand is reported, and a device with a queue does not wait for the host.
bool may_run_ahead(const core::Config& config, Index done) {
  return config.device.kind == kernels::DeviceKind::cuda && !evaluates_after(config, done) &&
         !saves_after(config, done) && done % kReplicaCheck != 0;
}

// How long steps take, from those of late.
class StepTimes {
 public:
  void add(double seconds) {
    times_.push_back(seconds);
    if (times_.size() > kLate) times_.pop_front();
  }
  double longest_s() const { return times_.empty() ? 0 : *std::max_element(times_.begin(), times_.end()); }
  // A rank that does nothing for ten times that has stopped working; a disk or a network may take a minute to recover.
  double patience_s() const { return times_.size() < kEnough ? 0 : std::max(kLeastPatience_s, 10 * longest_s()); }

 private:
  static constexpr std::size_t kLate = 20, kEnough = 3;
  static constexpr double kLeastPatience_s = 60;
  std::deque<double> times_;
};

// What the ranks tell each other after a step, in one exchange.
struct Agreed {
  bool stop = false;     // one of them was asked to
  bool time_up = false;  // by rank 0's clock
  bool saved = false;    // all have written their part of the checkpoint under way
};

Agreed agree(Session& session, double longest_step_s) {
  const bool first = session.mesh.rank() == 0;
  const bool time_up = first && session.limit.ends_before(longest_step_s, session.saver.longest_s());
  const double own[] = {stop_was_asked() ? 1.0 : 0.0, time_up ? 1.0 : 0.0, session.saver.ended() ? 1.0 : 0.0};
  const std::vector<double> all = session.mesh.world().gather_values(own);
  Agreed agreed{false, false, session.saver.under_way()};
  for (std::size_t i = 0; i < all.size(); i += 3) {
    agreed.stop = agreed.stop || all[i] != 0;
    agreed.time_up = agreed.time_up || all[i + 1] != 0;
    agreed.saved = agreed.saved && all[i + 2] != 0;
  }
  return agreed;
}

class Steps {
 public:
  explicit Steps(Session& session)
      : session_(session), config_(session.job.config), trainer_(session.trainer), first_(trainer_.steps_done()) {}
  RunEnd run();

 private:
  std::optional<core::StepReport> end_step();
  void not_finite(const core::NotFinite& error);
  void note(const core::StepReport& report, double seconds);
  void evaluate_and_write(Index step, const std::optional<core::StepReport>& report, double seconds);
  void save() {
    outside_steps(session_, [&] { session_.saver.begin(); });
  }
  void save_now() {
    outside_steps(session_, [&] { session_.saver.save_now(); });
  }
  void finish_save() {
    outside_steps(session_, [&] { session_.saver.finish(); });
  }

  Session& session_;
  const core::Config& config_;
  core::Trainer& trainer_;
  const Index first_;
  std::optional<core::MetricsFile> metrics_;  // on rank 0
  std::optional<EventFile> events_;           // there too, when the job asks for it
  StepTimes times_;
  Index skipped_ = 0;  // in a row
};

void Steps::note(const core::StepReport& report, double seconds) {
  session_.figures.step_s += seconds;
  session_.figures.tokens += report.tokens;
  session_.figures.loss = report.loss;
  session_.progress.step(report, seconds);
  times_.add(seconds);
  session_.patience_s = times_.patience_s();
  session_.runtime.expect_progress_within(session_.patience_s);
}

void Steps::evaluate_and_write(Index step, const std::optional<core::StepReport>& report, double seconds) {
  const Index done = step + 1;
  std::vector<core::NamedLoss> losses;
  if (evaluates_after(config_, done)) losses = evaluate(session_);
  say_losses(session_.progress, done, losses);
  if (report && metrics_)
    metrics_->append(*report, seconds, step == 0 ? session_.figures.before : std::vector<core::NamedLoss>{}, losses);
  if (report && events_) events_->append(step, tagged_values(*report, seconds, losses));
  if (done == config_.train.steps) session_.figures.after = losses;
}

// Says where it began, and goes on without the step or ends the run. The state is that of before the step: it is saved
// unless it was bad already, when an older checkpoint is the last good one.
void Steps::not_finite(const core::NotFinite& error) {
  constexpr Index kMostInARow = 10;
  core::FirstNotFinite::Place found;
  outside_steps(session_, [&] { found = trainer_.find_not_finite(session_.data.train); });
  const std::string what =
      text(error.what(), found.words.empty() ? "; run once more the step is finite: a device may be failing"
                                             : "; first in " + found.words);
  ++skipped_;
  if (config_.train.on_nan == core::OnNan::skip && skipped_ < kMostInARow && !found.in_state) {
    session_.progress.say(what + "; skipped");
    trainer_.skip_step();
    return;
  }
  if (found.in_state)
    finish_save();  // one that is on its way is of a state before that
  else
    outside_steps(session_, [&] { session_.saver.save_beside_others(); });
  const std::string kept =
      found.in_state ? "; the last checkpoint is from before that"
                     : "; the state before it is saved as " + session_.directory.checkpoint(trainer_.steps_done());
  fail(Failure::numerics, text(what, skipped_ > 1 ? text("; ", skipped_, " in a row") : "", kept));
}

// None when it was skipped.
std::optional<core::StepReport> Steps::end_step() {
  try {
    const core::StepReport report = trainer_.finish();
    skipped_ = 0;
    return report;
  } catch (const core::NotFinite& error) {
    not_finite(error);
    return std::nullopt;
  }
}

RunEnd Steps::run() {
  const Index steps = config_.train.steps;
  outside_steps(session_, [&] {
    on_first_rank(session_.mesh.world(), [&] {
      metrics_.emplace(session_.directory.file("metrics.jsonl"), first_);
      if (config_.run.tensorboard) events_.emplace(session_.directory.file("events"), first_);
      return 0.0;
    });
  });
  if (first_ == 0) say_losses(session_.progress, 0, session_.figures.before = evaluate(session_));
  if (first_ == steps) session_.figures.after = evaluate(session_);  // stopped between the last step and its summary
  RunTrace trace(session_.device, session_.mesh, session_.directory.file("trace.json"), config_.run.trace, first_,
                 steps);
  bool stop = false;
  Agreed agreed;
  session_.step_start = Clock::now();
  for (Index step = first_; step < steps; ++step) {
    if (trainer_.under_way() == 0) {
      if (trace.turns_at(step)) outside_steps(session_, [&] { trace.before(step); });
      trainer_.begin(session_.data.train);
    }
    const Index done = step + 1;
    const bool ahead = !stop && may_run_ahead(config_, done) && !trace.turns_at(done);
    if (ahead) trainer_.begin(session_.data.train);
    const std::optional<core::StepReport> report = end_step();
    const double seconds = std::chrono::duration<double>(Clock::now() - session_.step_start).count();
    session_.step_start = Clock::now();
    if (report) note(*report, seconds);
    evaluate_and_write(step, report, seconds);
    agreed = agree(session_, times_.longest_s());
    stop = (stop || agreed.stop || agreed.time_up) && done < steps;
    if (agreed.saved) finish_save();
    if (trace.turns_at(done)) outside_steps(session_, [&] { trace.after(done); });
    if (ahead && report) continue;  // the state is that of the step begun, and nothing is due
    const bool last = stop || done == steps, saves = last || saves_after(config_, done);
    if (saves || done % kReplicaCheck == 0) outside_steps(session_, [&] { trainer_.check_replicas(); });
    if (last)
      save_now();
    else if (saves)
      save();
    if (stop) break;
  }
  const Saver& saver = session_.saver;
  session_.figures.checkpoint_bytes = saver.bytes();
  session_.figures.saved_beside = saver.beside();
  session_.figures.longest_pause_s = saver.longest_pause_s();
  session_.figures.longest_save_s = saver.longest_beside_s();
  if (!stop) return RunEnd::complete;
  return agreed.stop || !agreed.time_up ? RunEnd::asked_to_stop : RunEnd::out_of_time;
}

}  // namespace

RunEnd run_steps(Session& session) { return Steps(session).run(); }

}  // namespace lorashard::launch
