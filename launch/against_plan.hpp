// What the planner says of a job beside what a run of it took: printed at the end of the run, and kept in summary.json.
#pragma once

#include <boost/json.hpp>
#include <optional>
#include <string>

#include "core/plan.hpp"
#include "launch/summary.hpp"

namespace lorashard::launch {

// Without `hardware` there is a plan of memory only. The object:
//   peak_bytes, step_s   {planned, observed}: of the fullest rank; seconds of a step
//   memory, time         [{name, planned, observed}]: bytes of each category at its peak, on the rank that has most
//                        of it; seconds
//                        of a step by what they were spent on, mean of ranks. Waiting for a peer counts where it waits.
boost::json::object against_plan(const core::PlanRequest& request, const std::optional<core::Hardware>& hardware,
                                 const RunFigures& run);

// That object as a table.
std::string against_plan_text(const boost::json::object& figures);

}  // namespace lorashard::launch
