// lorashard train: from a job file to a trained adapter (or model), in the order in which the rooms depend on each
// other.
#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "core/metrics.hpp"
#include "core/quote.hpp"
#include "core/text_file.hpp"
#include "launch/against_plan.hpp"
#include "launch/ceiling.hpp"
#include "launch/planned_job.hpp"
#include "launch/report.hpp"
#include "launch/report_files.hpp"
#include "launch/stop_signal.hpp"
#include "launch/subcommands.hpp"
#include "launch/together.hpp"
#include "launch/train_meta.hpp"
#include "launch/training.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using core::Index;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

// Measuring the machine's ceiling takes a few seconds: not for runs of less than this.
constexpr double kWorthCeiling_s = 60;

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

void finish(Session& session, const std::optional<core::Hardware>& hardware) {
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
    session.figures.against_plan = against_plan(request, hardware, session.figures);
    write_summary(session);
    write_run_report(session);
    return 0.0;
  });
  session.progress.say(summary_text(session.figures));
}

}  // namespace

int run_job(dist::Runtime& runtime, const Job& job) {
  keep_stop_signals_from_work();
  std::optional<core::Hardware> hardware;
  if (!job.config.device.hardware.empty()) hardware = find_hardware(job.config.device.hardware, "", job.threads);
  const std::unique_ptr<kernels::Device> device = make_device(job, runtime);
  dist::Mesh mesh = runtime.make_mesh(*device, job.extents);
  std::optional<JobData> data;
  together(mesh.world(), [&] { data = open_data(job.config); });
  verify_base(job.config, mesh.world(), runtime.place());
  RunDirectory directory(job.config.run.dir, mesh.world(), runtime.place());
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
  const TimeLimit limit(job.time_left_s, std::getenv);
  Saver saver(job.config.run, trainer, directory);
  Session session{job, *data, *device, runtime, mesh, trainer, directory, progress, saver, limit};
  session.figures.first_step = first;
  const RunEnd end = run_steps(session);
  if (end == RunEnd::complete) {
    finish(session, hardware);
    return 0;
  }
  const std::string why = end == RunEnd::out_of_time
                              ? text("out of time (", duration_text(std::max(0.0, *limit.left_s())), " left)")
                              : "stopped by the system";
  progress.say(text(why, "; saved ", directory.checkpoint(trainer.steps_done())));
  return static_cast<int>(Failure::preempted);
}

const Syntax& train_syntax() {
  static const Syntax syntax{
      .usage = "[mpirun -np N] lorashard train --config <file> [--section.key value ...]",
      .about = "Runs a job. Results go to run.dir; a job that was interrupted continues there.",
      .options = {{"ranks", "n", "with device.kind = meta: ranks to count for, in this one process"},
                  {"target", "host|cuda", "with device.kind = meta: the device to plan for (host)"},
                  {"json", "", "with device.kind = meta: print one JSON object"},
                  {"time-left", "time", "save and end before this has passed: 90s, 15m, 2h; under Slurm its own limit"}},
      .job_keys = true};
  return syntax;
}

int train(dist::Runtime& runtime, int argc, char** argv) {
  const Arguments arguments(train_syntax(), argc, argv);
  const core::Config config = arguments.config();
  if (config.device.kind == kernels::DeviceKind::meta) return train_on_meta(runtime, arguments);
  if (config.run.dir.empty()) fail(Failure::configuration, "run.dir: missing, expected a directory for the results");
  Job job = make_job(config, runtime.size());
  if (arguments.has("time-left")) {
    job.time_left_s = to_seconds(arguments.value("time-left"));
    if (!job.time_left_s)
      fail(Failure::configuration, text("command line: --time-left: found ", core::in_quotes(arguments.value("time-left")),
                                        ", expected a time such as 90s, 15m or 2h"));
  }
  return run_job(runtime, job);
}

}  // namespace lorashard::launch
