// A system that wants its machines back says so by SIGTERM (Slurm, mpirun) or SIGUSR1 (sbatch --signal=USR1@120).
#pragma once

namespace lorashard::launch {

// From now on these signals are remembered instead of ending the process.
void watch_stop_signals();

// From now on no thread that computes takes these signals: not this one, nor those that it starts. A thread that does nothing
// else has them. Call it before the first parallel loop. oneDNN's products keep their stack pointer in a small buffer on
// the heap while they run: there a signal's frame would lie over other memory.
void keep_stop_signals_from_work();
// True once this rank was asked to stop.
bool stop_was_asked();

}  // namespace lorashard::launch
