// Adapters that take turns on a mesh, for the host and for the cuda device: tests/core and tests/gpu.
#pragma once

#include "tests/golden/trial.hpp"

namespace lorashard::golden {

// A base of random weights and adapters of it that differ in targets, layers and ranks; two differ in values alone, and the
// last is the first one as a PEFT directory.
struct SwitchFiles {
  std::string base, other_base, rows;
  std::vector<std::string> adapters;
};
// Made once a job. Collective over the job.
const SwitchFiles& switch_files();
// A job that only runs forward, with this adapter (none: the base alone).
core::Config switch_job(const dist::MeshExtents& mesh, const std::string& adapter);

// Each turn gives the losses and logits of a model that has that adapter alone, bit for bit; the cache holds what has room
// for all but one, and lets go of the one that was used longest ago. Collective over the job.
void take_turns(const dist::MeshExtents& mesh, kernels::DeviceKind kind);

}  // namespace lorashard::golden
