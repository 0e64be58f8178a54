#include "launch/search_page.hpp"

#include <boost/json.hpp>
#include <cstdio>

#include "launch/plan_page.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using core::Found;
using core::Layout;
using core::Method;
using kernels::text;

namespace {

// On one rank and without a pipeline, so that nothing but the search says what divides.
core::Config searched_config(const Arguments& arguments, Method method) {
  core::Config config = arguments.config();
  config.adapter.method = method;
  config.mesh = {};
  config.train.microbatch = 0;
  return config;
}

// Of one method.
struct Results {
  std::optional<Found> smallest, fastest;
  std::vector<Found> front;  // more ranks, less time
};

// Doubling the smallest number: each kept where it is faster than all before it.
std::vector<Found> front_of(const core::LayoutRequest& request, const Found& smallest, int most) {
  std::vector<Found> front{smallest};
  for (int ranks = 2 * smallest.layout.extents.ranks(); ranks <= most; ranks *= 2) {
    std::optional<Found> found = core::fastest(request, ranks);
    if (found && found->plan.time.step_s < front.back().plan.time.step_s) front.push_back(std::move(*found));
  }
  return front;
}

std::vector<std::string> row_of(const std::string& label, const Found& found) {
  const int ranks = found.layout.extents.ranks();
  return {label,
          std::to_string(ranks),
          bytes_text(found.plan.peak_bytes_per_rank),
          fixed_text(1e3 * found.plan.time.step_s, 0),
          fixed_text(found.plan.tokens_per_s() / ranks, 1),
          layout_text(found.layout)};
}

std::string results_text(const std::map<Method, Results>& all, const core::Hardware& hardware, int most) {
  std::vector<std::vector<std::string>> table{
      {text("on ", hardware.name), "ranks", "a rank", "ms a step", "tokens/s a rank", "layout"}};
  for (const auto& [method, results] : all) {
    const std::string label = name(method);
    if (!results.smallest) {
      table.push_back({label + ", smallest", text("more than ", most), "", "", "", ""});
      continue;
    }
    table.push_back(row_of(label + ", smallest", *results.smallest));
    if (results.fastest) table.push_back(row_of(label + ", fastest", *results.fastest));
    for (std::size_t i = 1; i < results.front.size(); ++i) table.push_back(row_of("  and with more", results.front[i]));
  }
  return table_text(table);
}

}  // namespace

SearchedJob::SearchedJob(const Arguments& arguments, Method method, const core::Hardware& hardware)
    : planned_(searched_config(arguments, method), 1), hardware_(hardware) {
  planned_.job().target = hardware.device;
  planned_.job().config.device.kind = kernels::DeviceKind::meta;
}

core::LayoutRequest SearchedJob::request() const {
  return {planned_.job().config, planned_.data().train, hardware_, planned_.job().target};
}

Job SearchedJob::job_of(const Layout& layout) const {
  Job job = planned_.job();
  job.config = layout.config;
  job.extents = layout.extents;
  return job;
}

std::optional<Found> fastest_on(const SearchedJob& job, const std::optional<Found>& smallest, int ranks) {
  return smallest && smallest->layout.extents.ranks() == ranks ? smallest : core::fastest(job.request(), ranks);
}

std::string layout_text(const Layout& layout) {
  const core::Config& config = layout.config;
  std::string line = text(to_string(layout.extents), ", microbatch ", config.train.microbatch);
  if (config.train.recompute == core::Recompute::selective) line += ", recompute selective";
  if (config.train.recompute == core::Recompute::full) line += ", recompute full";
  if (config.mesh.sequence_parallel) line += ", sequence parallel";
  if (config.mesh.chunks > 1) line += text(", interleaved, ", config.mesh.chunks, " parts");
  return line;
}

int plan_search(const Arguments& arguments, const core::Hardware& hardware) {
  const int most = ranks_option(arguments, "most", 4096);
  std::map<Method, Results> all;
  std::map<Method, std::unique_ptr<SearchedJob>> jobs;
  int ranks = 1;
  for (const Method method : {Method::lora, Method::full}) {
    jobs[method] = std::make_unique<SearchedJob>(arguments, method, hardware);
    all[method].smallest = core::smallest(jobs[method]->request(), most);
    if (all[method].smallest) ranks = std::max(ranks, all[method].smallest->layout.extents.ranks());
  }
  ranks = ranks_option(arguments, "ranks", ranks);
  for (auto& [method, results] : all) {
    results.fastest = fastest_on(*jobs[method], results.smallest, ranks);
    if (results.smallest) results.front = front_of(jobs[method]->request(), *results.smallest, most);
  }
  if (!arguments.has("json")) {
    std::fputs(results_text(all, hardware, most).c_str(), stdout);
    return 0;
  }
  boost::json::object smallest, fastest, front;
  const auto json_of = [&](Method method, const Found& found) {
    return plan_json(jobs[method]->job_of(found.layout), hardware, found.plan);
  };
  for (const auto& [method, results] : all) {
    const char* key = name(method);
    smallest[key] = results.smallest ? boost::json::value(json_of(method, *results.smallest)) : nullptr;
    fastest[key] = results.fastest ? boost::json::value(json_of(method, *results.fastest)) : nullptr;
    boost::json::array steps;
    for (const Found& found : results.front) steps.push_back(json_of(method, found));
    front[key] = steps;
  }
  std::puts(boost::json::serialize(boost::json::object{{"smallest", smallest}, {"fastest", fastest}, {"front", front}})
                .c_str());
  return 0;
}

}  // namespace lorashard::launch
