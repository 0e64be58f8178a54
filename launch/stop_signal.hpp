// A system that wants its machines back says so by SIGTERM (Slurm, mpirun) or SIGUSR1 (sbatch --signal=USR1@120).
#pragma once

namespace lorashard::launch {

// From now on these signals are remembered instead of ending the process.
void watch_stop_signals();
// True once this rank was asked to stop.
bool stop_was_asked();

}  // namespace lorashard::launch
