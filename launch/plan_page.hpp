// A plan for people and for scripts.
#pragma once

#include <boost/json.hpp>
#include <string>
#include <vector>

#include "core/plan.hpp"
#include "launch/job.hpp"

namespace lorashard::launch {

// Memory by stage, work, traffic, the time of a step and what follows from it.
std::string plan_text(const Job& job, const core::Hardware& hardware, const core::Plan& plan);
// "fits: ..." or "does not fit: ...", with what is in the way.
std::string verdict_text(const core::Hardware& hardware, const core::Plan& plan);
// Which layout it is, on which memory: keys of plan_json too.
boost::json::object layout_json(const Job& job, const core::Hardware& hardware);
// One object: the keys of the README's table.
boost::json::object plan_json(const Job& job, const core::Hardware& hardware, const core::Plan& plan);

// GPU-hours of all steps of the job.
double gpu_hours(const Job& job, const core::Plan& plan);

}  // namespace lorashard::launch
