// What this process has of the machine it runs on.
#pragma once

#include "kernels/view.hpp"

namespace lorashard::launch {

// Threads for one rank: the cores it may run on, shared with the ranks of its host that may run on the same ones
// (mpirun may have bound each rank to cores of its own). At least 1. Collective over all ranks of MPI's world.
int fair_threads();

// OpenMP threads that wait for the next loop spin for a fraction of a millisecond, then sleep. GCC's default is to spin for
// milliseconds, which on cores shared with anything else (a second rank, a test beside it) was measured to make short
// loops four to ten times slower, and is no faster on cores of one's own. GCC reads the variable when the program
// starts, so the program starts itself again with it; nothing happens where the user has chosen (OMP_WAIT_POLICY or
// GOMP_SPINCOUNT). Call it first in main.
void bound_thread_spinning(char** argv);

// Most memory the process has held so far, as the system counts it: libraries and all.
kernels::Index peak_resident_bytes();

// True when a person sees standard output. mpirun gives its ranks a terminal in any case, so its own output is asked.
bool output_is_terminal();

}  // namespace lorashard::launch
