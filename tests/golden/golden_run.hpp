// One case of the reference runs through the real trainer, on any device: every step's loss and norm, the gradients of
// step 1, the final values and the loss after, held to the bounds of golden/README.md.
#pragma once

#include "tests/golden/golden_cases.hpp"
#include "tests/golden/trial.hpp"

namespace lorashard::golden {

// `root` is the folder of the golden runs. `most_steps`: of the run's, for devices on which all take too long; 0: all.
// Collective over the job.
void repeat_golden(const GoldenCase& c, const std::string& root, kernels::DeviceKind kind, std::size_t most_steps = 0);

}  // namespace lorashard::golden
