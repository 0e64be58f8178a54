#include "launch/search_page.hpp"

#include <cmath>
#include <cstdio>
#include <map>

#include "launch/plan_page.hpp"
#include "launch/report_files.hpp"
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
  std::unique_ptr<SearchedJob> job;
  std::vector<Found> front;      // the first: on the fewest ranks
  std::optional<Found> fastest;  // on the number asked for

  Results(const Arguments& arguments, Method method, const core::Hardware& hardware, int most)
      : job(std::make_unique<SearchedJob>(arguments, method, hardware)), front(job->search().front(most)) {}
};

int ranks_of(const Found& found) { return found.layout.extents.ranks(); }

double tokens_per_s(const Found& found) {
  const core::Config& config = found.layout.config;
  return static_cast<double>(config.train.batch * config.data.length) / found.step_s;
}

std::vector<std::string> row_of(const std::string& label, const Found& found) {
  return {label,
          std::to_string(ranks_of(found)),
          bytes_text(found.peak_bytes),
          fixed_text(1e3 * found.step_s, 0),
          fixed_text(tokens_per_s(found) / ranks_of(found), 1),
          layout_text(found.layout)};
}

// The last before each doubling of the fewest ranks: they are too many for a page.
std::vector<Found> some_of(const std::vector<Found>& front) {
  std::vector<Found> some;
  for (std::size_t i = 1; i < front.size(); ++i) {
    const auto doublings = [&](const Found& found) {
      return std::floor(std::log2(ranks_of(found) / ranks_of(front[0])));
    };
    if (i + 1 == front.size() || doublings(front[i + 1]) > doublings(front[i])) some.push_back(front[i]);
  }
  return some;
}

std::string results_text(const std::map<Method, Results>& all, const core::Hardware& hardware, int most) {
  std::vector<std::vector<std::string>> table{
      {text("on ", hardware.name), "ranks", "a rank", "ms a step", "tokens/s a rank", "layout"}};
  std::string below;
  for (const auto& [method, results] : all) {
    const std::string label = name(method);
    if (results.front.empty()) {
      table.push_back({label + ", smallest", text("more than ", most), "", "", "", ""});
      continue;
    }
    table.push_back(row_of(label + ", smallest", results.front[0]));
    if (results.fastest) table.push_back(row_of(label + ", fastest", *results.fastest));
    for (const Found& found : some_of(results.front)) table.push_back(row_of("  and with more", found));
    below += text(below.empty() ? "" : ", ", results.front.size(), " by ", label);
  }
  if (!below.empty())
    below = text("Numbers of ranks up to ", most, " that beat all smaller ones: ", below,
                 "; --json and --report have them all.\n");
  return table_text(table) + below;
}

boost::json::object searched_json(const std::map<Method, Results>& all, const core::Hardware& hardware) {
  boost::json::object smallest, fastest, front;
  for (const auto& [method, results] : all) {
    const auto planned = [&](const Found& found) {
      return plan_json(results.job->job_of(found.layout), hardware, results.job->plan_of(found.layout));
    };
    const char* key = name(method);
    smallest[key] = results.front.empty() ? boost::json::value(nullptr) : planned(results.front[0]);
    fastest[key] = results.fastest ? boost::json::value(planned(*results.fastest)) : nullptr;
    front[key] = front_json(*results.job, hardware, results.front);
  }
  return {{"smallest", smallest}, {"fastest", fastest}, {"front", front}};
}

// Without the timelines of plans, which it does not show.
void write_search_report(const std::string& path, const core::Hardware& hardware, boost::json::object data) {
  for (const char* found : {"smallest", "fastest"})
    for (auto& [method, plan] : data.at(found).as_object())
      if (plan.is_object()) plan.as_object().erase("timeline");
  data["report"] = "search";
  data["hardware"] = hardware.name;
  data["memory_bytes"] = hardware.memory_bytes;
  write_report(path, data);
}

}  // namespace

SearchedJob::SearchedJob(const Arguments& arguments, Method method, const core::Hardware& hardware)
    : planned_(searched_config(arguments, method), 1), hardware_(hardware) {
  planned_.job().target = hardware.device;
  planned_.job().config.device.kind = kernels::DeviceKind::meta;
  search_ = std::make_unique<core::Search>(request());
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

core::Plan SearchedJob::plan_of(const Layout& layout) const {
  return core::plan_job(core::request_of(request(), layout), hardware_);
}

boost::json::array front_json(const SearchedJob& job, const core::Hardware& hardware, const std::vector<Found>& front) {
  boost::json::array all;
  for (const Found& found : front) {
    boost::json::object object = layout_json(job.job_of(found.layout), hardware);
    object["peak_bytes_per_rank"] = found.peak_bytes;
    object["step_s"] = found.step_s;
    object["tokens_per_s"] = tokens_per_s(found);
    object["tokens_per_s_per_gpu"] = tokens_per_s(found) / ranks_of(found);
    all.push_back(object);
  }
  return all;
}

std::string layout_text(const Layout& layout) {
  const core::Config& config = layout.config;
  std::string line = text(to_string(layout.extents), ", ", kernels::name(config.train.precision), ", microbatch ",
                          config.train.microbatch);
  if (config.train.recompute == core::Recompute::selective) line += ", recompute selective";
  if (config.train.recompute == core::Recompute::full) line += ", recompute full";
  if (config.mesh.sequence_parallel) line += ", sequence parallel";
  if (config.mesh.chunks > 1) line += text(", interleaved, ", config.mesh.chunks, " parts");
  return line;
}

int plan_search(const Arguments& arguments, const core::Hardware& hardware) {
  const int most = ranks_option(arguments, "most", 4096);
  std::map<Method, Results> all;
  int ranks = 1;
  for (const Method method : {Method::lora, Method::full}) {
    const Results& results = all.try_emplace(method, arguments, method, hardware, most).first->second;
    if (!results.front.empty()) ranks = std::max(ranks, ranks_of(results.front[0]));
  }
  ranks = ranks_option(arguments, "ranks", ranks);
  for (auto& [method, results] : all) results.fastest = results.job->search().fastest(ranks);
  boost::json::object data;
  if (arguments.has("report") || arguments.has("json")) data = searched_json(all, hardware);
  if (arguments.has("report")) write_search_report(arguments.value("report"), hardware, data);
  const std::string page =
      arguments.has("json") ? boost::json::serialize(data) + "\n" : results_text(all, hardware, most);
  std::fputs(page.c_str(), stdout);
  return 0;
}

}  // namespace lorashard::launch
