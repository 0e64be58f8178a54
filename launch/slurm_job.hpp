// A job on Slurm: how many nodes, what of each, for how long, and the batch script that says so.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/hardware.hpp"
#include "launch/job.hpp"
#include "launch/planned_job.hpp"

namespace lorashard::launch {

// Where the ranks lie.
struct Placement {
  int ranks = 1, nodes = 1, per_node = 1;
  int cpus = 1;     // a rank
  std::string why;  // so many nodes: for the script's reader
};

// Seconds by what takes them; the evaluations are counted as if they ran backward too, which they do not.
struct PlannedTime {
  double step_s = 0, steps_s = 0, loading_s = 0, checkpoint_s = 0, checkpoints_s = 0, evaluations_s = 0;
  bool evaluations_unknown = false;  // data.valid is not here
  double together_s() const { return steps_s + loading_s + checkpoints_s + evaluations_s; }
};

struct SlurmJob {
  Placement place;
  bool on_gpus = false;
  double node_memory_bytes = 0;  // host memory, margin included
  double rank_memory_bytes = 0;  // planned peak, of a GPU or (on hosts) of a rank
  std::optional<core::Hardware> hardware;
  std::optional<PlannedTime> time;  // with hardware
  std::string limit;                // as Slurm writes it
  long limit_s = 0;                 // 0: none
  std::string mesh;                 // "8x1x12"
  core::Index steps = 0;
};

// Options that place the ranks: checked against each other and the mesh before anything is read but `hardware`. Throws
// Failure::configuration, one line.
Placement place_ranks(const core::Config& config, const Arguments& arguments, const core::Hardware* hardware);

// The options that Slurm gets as they are: a #SBATCH line each. Throws Failure::configuration for what would end a line
// or a word, for a launcher that there is none of, and for a memory that Slurm would not take.
std::string passed_on(const Arguments& arguments);

// Plans the job on that. Throws Failure::configuration for a job that is wrong or has no time limit. `misfit` is what
// does not fit (one line), or empty.
SlurmJob plan_slurm_job(const Arguments& arguments, std::string& misfit);

// "90", "1:30", "2:00:00", "1-12", "1-12:30", "1-12:30:00" of Slurm in seconds; 0 for no limit ("0", "UNLIMITED").
// Nothing for what Slurm would not take.
std::optional<long> slurm_seconds(const std::string& limit);
std::string slurm_time(double seconds);  // "1-02:30:00", rounded up to a minute

// In single quotes where a shell would read more into it than a word.
std::string shell_word(const std::string& word);

// The batch script. `program` and `cluster` are absolute paths, of this program and of the folder cluster/.
std::string slurm_script(const SlurmJob& job, const Arguments& arguments, const std::string& program,
                         const std::string& cluster);

// Hands the script to sbatch: the job's number. Throws Failure::configuration with sbatch's own error in one line.
std::string submit_to_slurm(const std::string& script_path);

}  // namespace lorashard::launch
