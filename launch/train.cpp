// lorashard train: from a job file to a trained adapter (or model), in the order in which the rooms depend on each
// other.
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "core/text_file.hpp"
#include "core/trainer.hpp"
#include "launch/against_plan.hpp"
#include "launch/ceiling.hpp"
#include "launch/planned_job.hpp"
#include "launch/progress.hpp"
#include "launch/report.hpp"
#include "launch/report_files.hpp"
#include "launch/run_directory.hpp"
#include "launch/run_trace.hpp"
#include "launch/stop_signal.hpp"
#include "launch/subcommands.hpp"
#include "launch/summary.hpp"
#include "launch/together.hpp"
#include "launch/train_meta.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using core::Index;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Measuring the machine's ceiling takes a few seconds: not for runs of less than this.
constexpr double kWorthCeiling_s = 60;

// A run under way: what its steps share.
struct Session {
  const Job& job;
  const JobData& data;
  kernels::Device& device;
  dist::Mesh& mesh;
  core::Trainer& trainer;
  RunDirectory& directory;
  Progress& progress;
  std::optional<core::Hardware> hardware;  // of device.hardware
  RunFigures figures;
  PhaseSeconds outside{};         // of evaluations and checkpoints
  Clock::time_point step_start{};  // of the step in hand: when the one before ended, moved on by what is outside
};

// Keeps the time of `body`, which is no part of a step, apart from that of steps.
template <class Body>
void outside_steps(Session& session, const Body& body) {
  const PhaseSeconds before = seconds_of(session.device);
  const Clock::time_point start = Clock::now();
  body();
  const PhaseSeconds after = seconds_of(session.device);
  session.step_start += Clock::now() - start;
  for (int p = 0; p < kernels::kPhaseCount; ++p) session.outside[p] += after[p] - before[p];
}

// Steps already done, 0 for a fresh start. Nothing is written.
Index resume(const core::Config& config, dist::Mesh& mesh, core::Trainer& trainer, const RunDirectory& directory) {
  const std::string& from = config.run.resume;
  if (from == "never") {
    on_first_rank(mesh.world(), [&] {
      if (!directory.checkpoints().empty())
        fail(Failure::configuration,
             text("run.dir: ", directory.path(), " holds a run, expected none with run.resume = never"));
      return 0.0;
    });
    return 0;
  }
  if (from != "auto") {
    trainer.load(from);
  } else if (const auto newest = directory.newest_checkpoint()) {
    trainer.load(directory.checkpoint(*newest));
  }
  if (trainer.steps_done() > config.train.steps)
    fail(Failure::configuration, text("train.steps: found ", config.train.steps, ", expected at least the ",
                                      trainer.steps_done(), " steps that the checkpoint has done"));
  return trainer.steps_done();
}

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

void save_checkpoint(Session& session) {
  outside_steps(session, [&] {
    session.figures.checkpoint_bytes = session.trainer.save(session.directory.checkpoint(session.trainer.steps_done()));
    session.directory.prune(session.job.config.run.keep);
  });
}

// What is due after `done` steps; both are after the last.
bool is_due(const core::Config& config, Index done, Index every) {
  return done == config.train.steps || (every > 0 && done % every == 0);
}
bool evaluates_after(const core::Config& config, Index done) { return is_due(config, done, config.train.evaluate_every); }
bool saves_after(const core::Config& config, Index done) { return is_due(config, done, config.run.checkpoint_every); }

// True when nothing but the next step is to come after `done` steps: no evaluation, no checkpoint, no end. Then that step
// is begun before the one in hand is reported, and a device with a queue does not wait for the host.
bool may_run_ahead(const core::Config& config, Index done) {
  return config.device.kind == kernels::DeviceKind::cuda && !evaluates_after(config, done) && !saves_after(config, done);
}

// All steps that are left. False when the system asked to stop before the last one; the state is saved either way.
bool run_steps(Session& session) {
  const core::Config& config = session.job.config;
  const core::TrainConfig& job = config.train;
  core::Trainer& trainer = session.trainer;
  const Index first = trainer.steps_done();
  const bool speaks = session.mesh.rank() == 0;
  std::optional<core::MetricsFile> metrics;
  outside_steps(session, [&] {
    on_first_rank(session.mesh.world(),
                  [&] { return metrics.emplace(session.directory.file("metrics.jsonl"), first), 0.0; });
  });
  if (first == 0) say_losses(session.progress, 0, session.figures.before = evaluate(session));
  if (first == job.steps) session.figures.after = evaluate(session);  // stopped between the last step and its summary
  RunTrace trace(session.device, session.mesh, session.directory.file("trace.json"), config.run.trace, first, job.steps);
  bool stop = false;
  session.step_start = Clock::now();
  for (Index step = first; step < job.steps; ++step) {
    if (trainer.under_way() == 0) {
      if (trace.turns_at(step)) outside_steps(session, [&] { trace.before(step); });
      trainer.begin(session.data.train);
    }
    const Index done = step + 1;
    const bool ahead = !stop && may_run_ahead(config, done) && !trace.turns_at(done);
    if (ahead) trainer.begin(session.data.train);
    const core::StepReport report = trainer.finish();
    const double seconds = seconds_since(session.step_start);
    session.step_start = Clock::now();
    session.figures.step_s += seconds;
    session.figures.tokens += report.tokens;
    session.figures.loss = report.loss;
    session.progress.step(report, seconds);

    std::vector<core::NamedLoss> losses;
    if (evaluates_after(config, done)) losses = evaluate(session);
    say_losses(session.progress, done, losses);
    if (speaks)
      metrics->append(report, seconds, step == 0 ? session.figures.before : std::vector<core::NamedLoss>{}, losses);
    if (done == job.steps) session.figures.after = losses;

    stop = (stop || stop_was_asked(session.mesh.world())) && done < job.steps;
    if (trace.turns_at(done)) outside_steps(session, [&] { trace.after(done); });
    if (ahead) continue;  // the state is that of the step begun
    if (stop || saves_after(config, done)) save_checkpoint(session);
    if (stop) return false;
  }
  return true;
}

std::string result_name(const core::Config& config) {
  return config.adapter.method == core::Method::full ? "model.h5" : "adapter.h5";
}

bool is_finished(const core::Config& config, dist::Mesh& mesh, const RunDirectory& directory) {
  return on_first_rank(mesh.world(), [&] {
           const bool there = std::filesystem::exists(directory.file("summary.json")) &&
                              std::filesystem::exists(directory.file(result_name(config)));
           return there ? 1.0 : 0.0;
         }) != 0;
}

// The adapter is a checkpoint under a lasting name; a fully trained model becomes a base file.
std::string make_result(Session& session) {
  const std::string result = session.directory.file(result_name(session.job.config));
  if (session.job.config.adapter.method == core::Method::full)
    session.trainer.export_base(result);
  else
    session.trainer.save(result);
  return result;
}

void write_summary(const Session& session) {
  core::write_whole(session.directory.file("summary.json"), summary_json(session.job, session.figures));
}

void write_run_report(const Session& session) {
  boost::json::object data = run_data(session.directory.path());
  data["report"] = "run";
  const std::filesystem::path path(session.directory.path());
  data["name"] = (path.has_filename() ? path : path.parent_path()).filename().string();
  core::write_whole(session.directory.file("report.html"), report_page(data));
}

void finish(Session& session) {
  outside_steps(session, [&] { session.figures.result = make_result(session); });
  if (session.figures.before.empty())
    session.figures.before = core::losses_before(session.directory.file("metrics.jsonl"));
  session.figures.trained_parameters = session.trainer.trained_parameters();
  session.figures.steps = session.trainer.steps_done();
  const RankFigures mine = figures_of(session.device, session.trainer.reduced_bytes(), session.outside);
  session.figures.ranks = gather_figures(session.mesh.world(), mine);
  if (session.figures.step_s > kWorthCeiling_s) {
    const Ceiling ceiling = measure_ceiling(session.device);
    session.figures.ceiling_share = ceiling.share();
    session.figures.library = ceiling.library;
  }
  on_first_rank(session.mesh.world(), [&] {
    const core::PlanRequest request{session.job.config, session.job.extents, session.job.config.device.kind,
                                    session.data.train, session.data.valid};
    session.figures.against_plan = against_plan(request, session.hardware, session.figures);
    write_summary(session);
    write_run_report(session);
    return 0.0;
  });
  session.progress.say(summary_text(session.figures));
}

}  // namespace

int run_job(dist::Runtime& runtime, const Job& job) {
  std::optional<core::Hardware> hardware;
  if (!job.config.device.hardware.empty()) hardware = find_hardware(job.config.device.hardware, "", job.threads);
  const std::unique_ptr<kernels::Device> device = make_device(job, runtime);
  dist::Mesh mesh = runtime.make_mesh(*device, job.extents);
  std::optional<JobData> data;
  together(mesh.world(), [&] { data = open_data(job.config); });
  verify_base(job.config, mesh.world());
  RunDirectory directory(job.config.run.dir, mesh.world());
  directory.lock_existing();
  core::Trainer trainer(job.config, *device, mesh);
  const Index first = resume(job.config, mesh, trainer, directory);
  mesh.world().barrier();  // all input is read and checked by every rank: from here on files are written
  directory.lock_or_make();

  Progress progress(mesh.rank() == 0, first, job.config.train.steps);
  progress.say(describe(job, trainer.trained_parameters(), *data));
  if (first == job.config.train.steps && is_finished(job.config, mesh, directory)) {
    progress.say(text("all ", first, " steps are done: ", directory.file(result_name(job.config))));
    return 0;
  }
  if (first > 0) progress.say(text("continuing after ", first, " of ", job.config.train.steps, " steps"));
  watch_stop_signals();
  device->profile().reset();
  Session session{job, *data, *device, mesh, trainer, directory, progress, std::move(hardware), {}, {}, {}};
  session.figures.first_step = first;
  const bool complete = run_steps(session);
  if (complete) {
    finish(session);
  } else {
    progress.say(text("stopped by the system; saved ", directory.checkpoint(trainer.steps_done())));
  }
  return complete ? 0 : static_cast<int>(Failure::preempted);
}

const Syntax& train_syntax() {
  static const Syntax syntax{
      .usage = "[mpirun -np N] lorashard train --config <file> [--section.key value ...]",
      .about = "Runs a job. Results go to run.dir; a job that was interrupted continues there.",
      .options = {{"ranks", "n", "with device.kind = meta: ranks to count for, in this one process"},
                  {"target", "host|cuda", "with device.kind = meta: the device to plan for (host)"},
                  {"json", "", "with device.kind = meta: print one JSON object"}},
      .job_keys = true};
  return syntax;
}

int train(dist::Runtime& runtime, int argc, char** argv) {
  const Arguments arguments(train_syntax(), argc, argv);
  const core::Config config = arguments.config();
  if (config.device.kind == kernels::DeviceKind::meta) return train_on_meta(runtime, arguments);
  if (config.run.dir.empty()) fail(Failure::configuration, "run.dir: missing, expected a directory for the results");
  return run_job(runtime, make_job(config, runtime.size()));
}

}  // namespace lorashard::launch
