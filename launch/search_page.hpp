// lorashard plan --search: the smallest and the fastest layouts of a job, by LoRA and in full.
#pragma once

#include <boost/json.hpp>

#include "core/layouts.hpp"
#include "launch/arguments.hpp"
#include "launch/planned_job.hpp"

namespace lorashard::launch {

// The job by one method, as it is searched over; its own mesh does not matter.
class SearchedJob {
 public:
  SearchedJob(const Arguments& arguments, core::Method method, const core::Hardware& hardware);
  core::Search& search() { return *search_; }
  // As a job of its own, for the pages of plan_page.hpp.
  Job job_of(const core::Layout& layout) const;
  core::Plan plan_of(const core::Layout& layout) const;

 private:
  core::LayoutRequest request() const;

  PlannedJob planned_;
  const core::Hardware& hardware_;
  std::unique_ptr<core::Search> search_;
};

// Each layout of a front, by what searches find of it.
boost::json::array front_json(const SearchedJob& job, const core::Hardware& hardware,
                              const std::vector<core::Found>& front);

// "8x2x3, bf16, microbatch 4, recompute full, sequence parallel, interleaved with 4 parts"
std::string layout_text(const core::Layout& layout);

int plan_search(const Arguments& arguments, const core::Hardware& hardware);

}  // namespace lorashard::launch
