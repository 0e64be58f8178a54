// A step in the Chrome trace format, which Perfetto (ui.perfetto.dev) and chrome://tracing open.
#pragma once

#include <string>

#include "core/timeline.hpp"

namespace lorashard::launch {

// One lane a pipeline stage; times in microseconds from the start of the step.
std::string chrome_trace(const core::StepTime& time);

}  // namespace lorashard::launch
