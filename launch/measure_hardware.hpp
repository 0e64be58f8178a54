// This machine as a hardware file: what `bench --write-hardware` measures.
#pragma once

#include <string>

#include "dist/runtime.hpp"
#include "kernels/device.hpp"

namespace lorashard::launch {

// Times this program's own operations on the host device, with all ranks of one host at work at once, and returns the
// text of a file for device.hardware; its comments say what was measured and what is a guess. Collective; takes about
// 20 s. Throws Failure::configuration unless there are at least two ranks, all on this host: what they cost each other
// is measured too.
std::string measure_hardware(dist::Runtime& runtime, kernels::Device& device, int threads);

}  // namespace lorashard::launch
