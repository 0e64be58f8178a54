// lorashard plan --search: the smallest and the fastest layouts of a job, by LoRA and in full.
#pragma once

#include <map>

#include "core/layouts.hpp"
#include "launch/arguments.hpp"
#include "launch/planned_job.hpp"

namespace lorashard::launch {

// The job by one method, as it is searched over; its own mesh does not matter.
class SearchedJob {
 public:
  SearchedJob(const Arguments& arguments, core::Method method, const core::Hardware& hardware);
  core::LayoutRequest request() const;
  // As a job of its own, for the pages of plan_page.hpp.
  Job job_of(const core::Layout& layout) const;

 private:
  PlannedJob planned_;
  const core::Hardware& hardware_;
};

// The fastest way to use `ranks`, which the smallest way already is on as many.
std::optional<core::Found> fastest_on(const SearchedJob& job, const std::optional<core::Found>& smallest, int ranks);

// "8x2x3, microbatch 4, recompute full, sequence parallel, interleaved with 4 parts"
std::string layout_text(const core::Layout& layout);

int plan_search(const Arguments& arguments, const core::Hardware& hardware);

}  // namespace lorashard::launch
