// A system that wants its machines back says so by SIGTERM (Slurm, mpirun) or SIGUSR1 (sbatch --signal=USR1@120).
#pragma once

#include "dist/communicator.hpp"

namespace lorashard::launch {

// From now on these signals are remembered instead of ending the process.
void watch_stop_signals();
// Collective: true on every rank once any rank was asked to stop.
bool stop_was_asked(dist::Communicator& world);

}  // namespace lorashard::launch
