// Planning is running the real program on the meta device: the plan's ledger, work and traffic are the run's own, to the
// byte, at every stage of a job.
#pragma once

#include "tests/golden/golden_cases.hpp"
#include "tests/golden/trial.hpp"

namespace lorashard::golden {

// `config` on `extents` and a device of `kind`, and on meta planned for that kind; `tokens` is its training file.
// Collective over the job.
void expect_plan_is_run(const core::Config& config, const dist::MeshExtents& extents, const std::string& tokens,
                        kernels::DeviceKind kind);

// A small job with the mesh and modes of `c` on a device of `kind`, and on meta planned for that kind. Collective over the job.
void expect_plan_is_run(const GoldenCase& c, kernels::DType precision, kernels::DeviceKind kind);

}  // namespace lorashard::golden
