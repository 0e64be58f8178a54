// A job as it is planned: neither its ranks nor its files need be there.
#pragma once

#include <memory>

#include "core/hardware.hpp"
#include "core/plan.hpp"
#include "launch/job.hpp"

namespace lorashard::launch {

class SyntheticTokens;

// Takes out of a job the files that are not there, for what needs no more than its extents. Throws
// Failure::configuration when the base is missing and the job does not say what it is.
void leave_out_missing_files(core::Config& config);

// Checks the job for `ranks` ranks. Where the base is not there the extents in the job stand for it; where the tokens
// are not there, random ones do.
class PlannedJob {
 public:
  PlannedJob(core::Config config, int ranks);
  ~PlannedJob();
  Job& job() { return job_; }
  const Job& job() const { return job_; }
  const JobData& data() const { return *data_; }
  // This outlives the request.
  core::PlanRequest request() const;

 private:
  Job job_;
  std::unique_ptr<SyntheticTokens> tokens_;
  std::unique_ptr<JobData> data_;
};

// A number of ranks on the command line; `otherwise` where it is not given.
int ranks_option(const Arguments& arguments, const char* option, int otherwise);
// --ranks; without it what tensor and pipeline extents ask for.
int planned_ranks(const core::Config& config, const Arguments& arguments);

// What device.hardware says: a path, or the name of a file in configs/hardware of this folder, of the installed tree or
// of the source tree; `otherwise` when it is empty. Of a host it is what a rank of `threads` threads has. Throws
// Failure::configuration naming the places looked at.
core::Hardware find_hardware(const std::string& named, const std::string& otherwise, int threads);
// The whole of it.
core::Hardware find_machine(const std::string& named);
// For a plan of `ranks` ranks; h100 unless named. Ranks of a host share its cores unless device.threads says otherwise.
core::Hardware find_hardware(const core::Config& config, int ranks);

}  // namespace lorashard::launch
