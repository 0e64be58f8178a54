#include <algorithm>
#include <cmath>
#include <filesystem>

#include "core/quote.hpp"
#include "launch/slurm_job.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

namespace fs = std::filesystem;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

[[noreturn]] void refuse(const char* option, const std::string& value, const char* expected) {
  fail(Failure::configuration,
       text("command line: --", option, ": found ", core::in_quotes(value), ", expected ", expected));
}

std::string memory_text(double bytes) {
  if (bytes >= 8 * 0x1p30) return text(std::llround(std::ceil(bytes / 0x1p30)), "G");
  return text(std::llround(std::ceil(bytes / 0x1p20)), "M");
}

std::string many(double count, const char* what) {
  return text(count_text(std::llround(count)), " ", what, count == 1 ? "" : "s");
}

std::string hardware_lines(const SlurmJob& job) {
  const char* unit = job.on_gpus ? "GPU" : "rank";
  if (!job.hardware)
    return text("# memory   ", bytes_text(job.rank_memory_bytes), " a ", unit,
                job.on_gpus ? " and what CUDA's libraries take (no device.hardware: nothing to hold it against)\n"
                            : " (no device.hardware: nothing to hold it against)\n");
  const PlannedTime& time = *job.time;
  std::string lines =
      text("# memory   ", bytes_text(job.rank_memory_bytes), " of ", bytes_text(job.hardware->memory_bytes), " a ",
           unit, " of ", job.hardware->name, "\n", "# step     ", fixed_text(1e3 * time.step_s, 3), " ms planned; ",
           many(static_cast<double>(job.steps), "step"), " take ", duration_text(time.steps_s), ", loading ",
           duration_text(time.loading_s), ", checkpoints ", duration_text(time.checkpoints_s), ", evaluations ",
           duration_text(time.evaluations_s), "\n");
  if (time.evaluations_unknown) lines += "#          data.valid is not here: its evaluations are not in the time\n";
  return lines;
}

std::string time_line(const SlurmJob& job, bool given) {
  if (!given)
    return "# time     that and half of it again, since a plan is no measurement, and 10 minutes to start and check\n";
  if (!job.time) return "# time     as given (--time); there is no device.hardware to plan it by\n";
  const double together_s = job.time->together_s();
  if (job.limit_s == 0 || together_s <= static_cast<double>(job.limit_s))
    return text("# time     as given (--time); planned ", duration_text(together_s), "\n");
  const double starts = std::ceil(together_s / static_cast<double>(job.limit_s));
  return text("# time     as given (--time); the plan is ", duration_text(together_s),
              ", so the job will have to be started ", fixed_text(starts, 0), " times or more\n");
}

// Ahead of the limit: enough for the step in hand, one more that has begun on a GPU, and the checkpoint.
long seconds_ahead(const SlurmJob& job) {
  const double wanted = job.time ? std::max(120.0, 60 + 2 * 1.5 * job.time->step_s + 2 * job.time->checkpoint_s) : 300;
  return std::lround(job.limit_s > 0 ? std::min(wanted, static_cast<double>(job.limit_s) / 2) : wanted);
}

// A value of a #SBATCH line, which Slurm reads much as a shell does.
std::string batch_value(const std::string& value) { return value.find(' ') == value.npos ? value : '"' + value + '"'; }

std::string job_name(const Arguments& arguments, const std::string& run_dir) {
  const fs::path path(run_dir.empty() ? arguments.value("config") : run_dir);
  std::string name = (path.has_filename() ? path : path.parent_path()).filename().stem();
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_') c = '-';
  return name.empty() ? "lorashard" : name;
}

std::string job_words(const Arguments& arguments) {
  std::string words = shell_word(fs::absolute(arguments.value("config")).lexically_normal());
  for (const auto& [key, value] : arguments.keys()) words += text(" --", key, " ", shell_word(value));
  return words;
}

}  // namespace

std::string shell_word(const std::string& word) {
  const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [](unsigned char c) {
    return std::isalnum(c) || std::string("_-./,:=+@%").find(static_cast<char>(c)) != std::string::npos;
  });
  if (plain) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string passed_on(const Arguments& arguments) {
  std::string lines;
  for (const char* option : {"partition", "account", "qos", "constraint"}) {
    if (!arguments.has(option)) continue;
    const std::string value = arguments.value(option);
    const bool plain = std::all_of(value.begin(), value.end(), [](unsigned char c) { return std::isgraph(c); });
    if (value.empty() || !plain || value.find_first_of("'\"#\\") != value.npos)
      refuse(option, value, "one word of what Slurm knows");
    lines += text("#SBATCH --", option, "=", value, "\n");
  }
  const std::string launcher = arguments.value("launcher", "srun"), memory = arguments.value("memory", "0");
  if (launcher != "srun" && launcher != "mpirun") refuse("launcher", launcher, "srun or mpirun");
  const std::size_t digits = memory.find_first_not_of("0123456789");
  if (digits == 0 || memory.empty() ||
      (digits != memory.npos && memory.find_first_of("KMGT", digits) != memory.size() - 1))
    refuse("memory", memory, "a whole number and K, M, G or T");
  return lines;
}

std::string slurm_script(const SlurmJob& job, const Arguments& arguments, const std::string& program,
                         const std::string& cluster) {
  const std::string run_dir = arguments.config().run.dir;
  const Placement& place = job.place;
  const bool requeue = arguments.has("requeue");
  std::string lines =
      text("#!/usr/bin/env bash\n",
           "# Made by lorashard launch from the plan of this job; the same command makes it anew. Options of sbatch "
           "win over it.\n",
           "#\n# nodes    ", place.nodes, ": ", place.why, "; mesh ", job.mesh, " (tensor x pipeline x data)\n",
           hardware_lines(job), "# a node   ", memory_text(job.node_memory_bytes),
           " of host memory: what its processes hold and load through, and a quarter more\n",
           time_line(job, arguments.has("time")), "#\n#SBATCH --job-name=", job_name(arguments, run_dir),
           "\n#SBATCH --nodes=", place.nodes, "\n#SBATCH --ntasks-per-node=", place.per_node,
           "\n#SBATCH --cpus-per-task=", place.cpus, "\n");
  if (job.on_gpus) lines += text("#SBATCH --gpus-per-node=", place.per_node, "\n");
  lines += text("#SBATCH --mem=", arguments.value("memory", memory_text(job.node_memory_bytes)),
                "\n#SBATCH --time=", job.limit, "\n", passed_on(arguments),
                "# Paths in the job file begin here.\n#SBATCH --chdir=", batch_value(fs::current_path()), "\n");
  if (!run_dir.empty()) lines += text("#SBATCH --output=", batch_value(fs::absolute(run_dir) / "slurm-%j.out"), "\n");
  lines += text(
      "#SBATCH --open-mode=append\n", requeue ? "#SBATCH --requeue\n" : "",
      "# So long before the limit the ranks are asked to finish their step and to save.\n#SBATCH --signal=B:USR1@",
      seconds_ahead(job), "\n\nexport LORASHARD=", shell_word(program),
      "\nexport launcher=", arguments.value("launcher", "srun"), "\nexec ", shell_word(cluster + "/run_job"),
      requeue ? " --requeue" : "", arguments.has("no-check") ? " --no-check" : "", " ", job_words(arguments), "\n");
  return lines;
}

}  // namespace lorashard::launch
