// lorashard plan: what a job would take on the hardware named, and whether it fits.
#include <cstdio>

#include "core/text_file.hpp"
#include "launch/plan_page.hpp"
#include "launch/planned_job.hpp"
#include "launch/report_files.hpp"
#include "launch/search_page.hpp"
#include "launch/subcommands.hpp"
#include "launch/trace.hpp"

namespace lorashard::launch {

using kernels::text;

namespace {

std::string changes_text(const PlannedJob& planned, const core::Hardware& hardware) {
  const Job& job = planned.job();
  const auto found = core::nearest_that_fit({job.config, planned.data().train, hardware, job.target}, job.extents);
  std::string lines;
  for (const core::Layout& layout : found)
    lines += text(lines.empty() ? "would fit   " : "            ", layout.change, "\n");
  return lines.empty() ? "would fit   nothing within three changes of a key: see --search\n" : lines;
}

int plan_one(const Arguments& arguments) {
  core::Config config = arguments.config();
  const int ranks = planned_ranks(config, arguments);
  const core::Hardware hardware = find_hardware(config, ranks);
  PlannedJob planned(std::move(config), ranks);
  Job& job = planned.job();
  job.target = hardware.device;
  job.config.device.kind = kernels::DeviceKind::meta;
  const core::Plan result = core::plan_job(planned.request(), hardware);
  if (arguments.has("trace")) core::write_whole(arguments.value("trace"), chrome_trace(lanes_of(result.time, job.extents)));
  boost::json::object data = plan_json(job, hardware, result);
  if (arguments.has("report")) {
    data["report"] = "plan";
    write_report(arguments.value("report"), data);
  }
  std::string page;
  if (arguments.has("json")) {
    page = boost::json::serialize(data) + "\n";
  } else {
    page = describe(job, result.trained_parameters, planned.data()) + plan_text(job, hardware, result) +
           verdict_text(hardware, result);
    if (!result.fits()) page += changes_text(planned, hardware);
  }
  std::fputs(page.c_str(), stdout);
  return result.fits() ? 0 : static_cast<int>(kernels::Failure::memory);
}

}  // namespace

const Syntax& plan_syntax() {
  static const Syntax syntax{
      .usage = "lorashard plan --config <file> [--ranks N] [--search] [--section.key value ...]",
      .about =
          "Runs the job's program on the meta device, for every rank: memory, work, traffic, time. Exit code 0 "
          "when it\nfits the hardware of device.hardware (h100 unless given), 3 when it does not.",
      .options = {{"ranks", "n", "GPUs in all; tensor x pipeline unless given"},
                  {"search", "",
                   "other meshes, microbatches and recompute modes: the fewest GPUs that do, and the fastest way"},
                  {"most", "n", "with --search: GPUs to look up to; 4096 unless given"},
                  {"trace", "file", "the step on a time axis, for Perfetto"},
                  {"report", "file.html", "a page of figures and pictures, and its data as JSON beside it"},
                  {"json", "", "print one JSON object"}},
      .job_keys = true};
  return syntax;
}

int plan(dist::Runtime& runtime, int argc, char** argv) {
  const Arguments arguments(plan_syntax(), argc, argv);
  expect_one_rank(runtime, "plan");
  if (!arguments.has("search")) return plan_one(arguments);
  // Any number of ranks: on a host each has one core unless device.threads says otherwise.
  return plan_search(arguments, find_hardware(arguments.config(), 1 << 20));
}

}  // namespace lorashard::launch
