// Steps in the Chrome trace format, which Perfetto (ui.perfetto.dev) and chrome://tracing open.
#pragma once

#include <string>
#include <vector>

#include "core/timeline.hpp"

namespace lorashard::launch {

struct Lane {
  std::string name;  // "rank 3, stage 1"
  std::vector<core::Span> spans;
};

// Works are named alike in plans and in runs: "forward 3", "backward 3.1" (of model part 1), "update". Times in
// microseconds from the start.
std::string chrome_trace(const std::vector<Lane>& lanes);

// A planned step: a lane for each rank, or for each stage where there are more ranks than a picture can show.
std::vector<Lane> lanes_of(const core::StepTime& time, const dist::MeshExtents& extents);
// A rank's lane is called alike in plans and in runs.
std::string lane_name(const dist::MeshExtents& extents, int rank);

}  // namespace lorashard::launch
