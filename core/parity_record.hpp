// What a certificate looks at, on the mesh or on one rank: values before the first step, what every step reports, its
// gradients, and the values after it.
#pragma once

#include "core/parity.hpp"
#include "core/trainer.hpp"

namespace lorashard::core {

// How far the copy of one tensor that strays most lies from the one that speaks for its stage.
struct CopyDistance {
  std::string tensor;
  double distance = 0;
  int rank = 0;
};

struct ParityStep {
  std::vector<double> losses, norms;  // as each rank reports them
  double lr = 0;
  std::vector<Trainer::NamedValues> gradients, values;  // whole; values after the step
};

// Large parts are kept on rank 0 alone.
struct ParityRecord {
  std::vector<Trainer::NamedValues> start;  // as the job initialises them
  std::vector<std::string> perturbed;       // B that got random values before step 0
  std::vector<Trainer::NamedValues> begun;  // what step 0 works with
  std::vector<CopyDistance> start_copies, end_copies;
  std::vector<ParityStep> steps;
  Index trained_parameters = 0;
};

// Collective over `mesh`. Makes a trainer of the job, and no more than request.steps steps with it.
ParityRecord record_of(const ParityRequest& request, const Config& config, dist::Mesh& mesh);

// What the mesh's record of the job `config` says beside that of one rank: fills comparisons and relative_errors.
void compare_records(const ParityRecord& mesh, const ParityRecord& one, const Config& config,
                     const dist::MeshExtents& extents, ParityReport& report);

// The job as one rank runs it: the same microbatches, no mesh.
Config on_one_rank(const Config& config, const dist::MeshExtents& extents);

}  // namespace lorashard::core
