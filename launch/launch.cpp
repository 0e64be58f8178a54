// lorashard launch: the batch script of a job, from its plan, and into the queue.
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "core/text_file.hpp"
#include "launch/slurm_job.hpp"
#include "launch/subcommands.hpp"

namespace lorashard::launch {

namespace fs = std::filesystem;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

fs::path this_program() {
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error);
}

// The scripts that this one calls: of the installed tree, or of the source tree.
std::string cluster_folder() {
  if (const char* named = std::getenv("LORASHARD_CLUSTER")) return fs::absolute(named).lexically_normal();
  const fs::path beside = this_program().parent_path();
  std::string places;
  for (const fs::path& folder :
       {beside / "../share/lorashard/cluster", beside / "../../cluster", fs::path("cluster")}) {
    const fs::path whole = fs::absolute(folder).lexically_normal();
    if (fs::exists(whole / "run_job")) return whole;
    places += text(places.empty() ? "" : ", ", whole.string());
  }
  fail(Failure::configuration,
       text("LORASHARD_CLUSTER: found nothing, expected the folder with run_job; looked for ", places));
}

int print_run_dir(const Arguments& arguments) {
  const std::string dir = arguments.config().run.dir;
  if (dir.empty()) fail(Failure::configuration, "run.dir: missing, expected a directory for the results");
  return std::puts(dir.c_str()), 0;
}

void say(const std::string& line) { std::fputs((line + "\n").c_str(), stderr); }

}  // namespace

const Syntax& launch_syntax() {
  static const Syntax syntax{
      .usage = "lorashard launch --slurm --config <file> [--ranks n | --nodes n] [--submit] [--section.key value ...]",
      .about =
          "Writes the Slurm batch script of a job from its plan, and prints it. With device.hardware the time limit "
          "is\n"
          "planned too. Exit code 3 when the job does not fit.",
      .options = {{"slurm", "", "for Slurm: the one batch system there is"},
                  {"submit", "", "hand it to sbatch, and say the job's number"},
                  {"to", "file", "where it is written; <run.dir>/job.sbatch unless given, nowhere without run.dir"},
                  {"ranks", "n", "in all; tensor x pipeline unless given"},
                  {"nodes", "n", "all GPUs of so many nodes, or --ranks spread over them"},
                  {"gpus-per-node", "n", "on cuda: those of device.hardware's file unless given"},
                  {"tasks-per-node", "n", "on hosts: ranks a node, 1 unless given"},
                  {"tensor-across-nodes", "", "a tensor group may lie in several nodes"},
                  {"cpus-per-task", "n", "device.threads; the host's cores shared out; 4 beside a GPU"},
                  {"memory", "size", "of the host, a node, as Slurm writes it; planned unless given"},
                  {"time", "limit", "as Slurm writes it; planned unless given"},
                  {"partition", "name", "Slurm's, passed on"},
                  {"account", "name", "the same"},
                  {"qos", "name", "the same"},
                  {"constraint", "features", "the same: features that the nodes must have"},
                  {"launcher", "srun|mpirun", "what starts the ranks; srun --mpi=pmix unless given"},
                  {"requeue", "", "stopped ahead of the limit it goes back into the queue, if it came further"},
                  {"no-check", "", "do not look at the nodes first (lorashard check)"},
                  {"run-dir", "", "print the job's run.dir, and do nothing else"}},
      .job_keys = true};
  return syntax;
}

int launch(dist::Runtime& runtime, int argc, char** argv) {
  const Arguments arguments(launch_syntax(), argc, argv);
  expect_one_rank(runtime, "launch");
  if (arguments.has("run-dir")) return print_run_dir(arguments);
  if (!arguments.has("slurm")) fail(Failure::configuration, "command line: --slurm: missing, expected it");
  const std::string config = arguments.required("config"), run_dir = arguments.config().run.dir;
  if (run_dir.empty() && arguments.has("submit"))
    fail(Failure::configuration, "run.dir: missing, expected a directory for the results of a job to be submitted");
  std::string misfit;
  const SlurmJob job = plan_slurm_job(arguments, misfit);
  if (!misfit.empty()) return say("lorashard: " + misfit), static_cast<int>(Failure::memory);
  const std::string script = slurm_script(job, arguments, this_program(), cluster_folder());

  // Slurm writes its output there, and makes no folder.
  std::error_code error;
  if (!run_dir.empty() && (arguments.has("submit") || !arguments.has("to"))) fs::create_directories(run_dir, error);
  if (error) fail(Failure::storage, text(run_dir, ": cannot be made: ", error.message()));
  const std::string path = arguments.value("to", run_dir.empty() ? "" : fs::path(run_dir) / "job.sbatch");
  if (!path.empty()) core::write_whole(path, script);
  std::fputs(script.c_str(), stdout);
  std::fflush(stdout);
  if (!path.empty()) say(text("written to ", path));
  if (arguments.has("submit")) say(text("submitted as job ", submit_to_slurm(path)));
  return 0;
}

}  // namespace lorashard::launch
