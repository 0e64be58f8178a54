// A job on the meta device: nothing is stored or computed, and every rank's memory, work and traffic are counted.
#pragma once

#include "dist/runtime.hpp"
#include "launch/arguments.hpp"

namespace lorashard::launch {

// Walks all ranks of the job in this one process and prints what each would use. Writes no file.
int train_on_meta(dist::Runtime& runtime, const Arguments& arguments);

}  // namespace lorashard::launch
