// A job on the meta device: nothing is stored or computed, and every rank's memory, work and traffic are counted.
#pragma once

#include "dist/runtime.hpp"
#include "launch/arguments.hpp"

namespace lorashard::launch {

// On one rank: walks all ranks of the job in this process and prints what each would use. On several: each is one rank of
// the job, with its real communicators and schedule, and rank 0 holds all of them against the walk. Writes no file.
int train_on_meta(dist::Runtime& runtime, const Arguments& arguments);

}  // namespace lorashard::launch
