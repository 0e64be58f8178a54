// lorashard compare: what LoRA saves against full fine-tuning of the same job, planned, and with --run also run here.
#include <boost/json.hpp>
#include <cstdio>
#include <map>

#include "launch/plan_page.hpp"
#include "launch/report_files.hpp"
#include "launch/search_page.hpp"
#include "launch/subcommands.hpp"
#include "launch/summary.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using core::Found;
using core::Method;
using kernels::text;

namespace {

constexpr Method kMethods[] = {Method::lora, Method::full};

// One planned run of one method.
struct Column {
  std::string head;
  Job job;
  core::Plan plan;
};

constexpr double kModels = 100;

// LoRA keeps one base and an adapter a model; full fine-tuning a base a model.
double storage_bytes(const Column& column) {
  const double value_bytes = column.job.config.train.precision == kernels::DType::bf16 ? 2 : 4;
  const double base = static_cast<double>(column.plan.base_parameters) * value_bytes;
  return column.job.config.adapter.method == Method::full ? kModels * base
                                                          : base + kModels * column.plan.checkpoint_bytes;
}

std::string planned_table(const core::Hardware& hardware, const std::vector<Column>& columns) {
  std::vector<std::vector<std::string>> rows{{text("planned, ", hardware.name)}};
  for (const Column& column : columns) rows[0].push_back(column.head);
  const auto add = [&](const char* label, auto cell) {
    rows.push_back({label});
    for (const Column& column : columns) rows.back().push_back(cell(column));
  };
  const auto ranks = [](const Column& c) { return static_cast<double>(c.job.extents.ranks()); };
  add("GPUs", [](const Column& c) { return std::to_string(c.job.extents.ranks()); });
  add("mesh", [](const Column& c) { return to_string(c.job.extents); });
  add("trained parameters", [](const Column& c) { return count_text(c.plan.trained_parameters); });
  add("memory a GPU", [](const Column& c) { return bytes_text(c.plan.peak_bytes_per_rank); });
  add("memory in all", [&](const Column& c) { return bytes_text(ranks(c) * c.plan.peak_bytes_per_rank); });
  add("ms a step", [](const Column& c) { return fixed_text(1e3 * c.plan.time.step_s, 0); });
  add("tokens/s a GPU", [&](const Column& c) { return fixed_text(c.plan.tokens_per_s() / ranks(c), 1); });
  add("GPU-hours", [](const Column& c) { return fixed_text(gpu_hours(c.job, c.plan), 1); });
  add("bytes all-reduced a step",
      [](const Column& c) { return bytes_text(static_cast<double>(c.plan.reduced_bytes)); });
  add("checkpoint", [](const Column& c) { return bytes_text(c.plan.checkpoint_bytes); });
  add("storage of 100 models", [](const Column& c) { return bytes_text(storage_bytes(c)); });
  return table_text(rows);
}

boost::json::object planned_json(const core::Hardware& hardware, const std::vector<Column>& columns) {
  boost::json::object root;
  for (const Column& column : columns) {
    boost::json::object object = plan_json(column.job, hardware, column.plan);
    object["storage_bytes_of_100_models"] = storage_bytes(column);
    root[column.head] = object;
  }
  return root;
}

using SearchedJobs = std::map<Method, std::unique_ptr<SearchedJob>>;

// Without the timelines of plans, which it does not show; with what more GPUs would do.
boost::json::object report_of(const core::Hardware& hardware, const std::vector<Column>& columns, SearchedJobs& jobs,
                              int most) {
  boost::json::object planned = planned_json(hardware, columns), front;
  for (auto& [head, plan] : planned) plan.as_object().erase("timeline");
  for (auto& [method, job] : jobs) front[name(method)] = front_json(*job, hardware, job->search().front(most));
  return {{"report", "compare"},
          {"hardware", hardware.name},
          {"memory_bytes", hardware.memory_bytes},
          {"planned", planned},
          {"front", front}};
}

// Each method on the fewest GPUs that hold it, and LoRA on as many as full fine-tuning needs.
std::vector<Column> planned_columns(const Arguments& arguments, const core::Hardware& hardware, SearchedJobs& jobs,
                                    int most) {
  std::vector<Column> columns;
  int shared = 0;
  const auto add = [&](const std::string& head, const SearchedJob& job, const Found& found) {
    columns.push_back({head, job.job_of(found.layout), job.plan_of(found.layout)});
  };
  for (auto& [method, job] : jobs) {
    const std::optional<Found> found = job->search().smallest(most);
    if (!found)
      kernels::fail(kernels::Failure::memory, text("adapter.method = ", name(method), ": does not fit on up to ", most,
                                                   " ", hardware.name, "; --most looks further"));
    shared = std::max(shared, found->layout.extents.ranks());
    add(text(name(method), ", smallest"), *job, *found);
  }
  shared = ranks_option(arguments, "ranks", shared);
  for (auto& [method, job] : jobs)
    if (const std::optional<Found> found = job->search().fastest(shared))
      add(text(name(method), " on ", shared), *job, *found);
  return columns;
}

// The job as it stands, by both methods, one after the other; their tables beside the memory planned for them.
int run_both(dist::Runtime& runtime, const Arguments& arguments) {
  std::vector<std::string> directories;
  for (const Method method : kMethods) {
    core::Config config = arguments.config();
    if (config.run.dir.empty())
      kernels::fail(kernels::Failure::configuration, "run.dir: missing, expected a directory for the results");
    config.adapter.method = method;
    config.run.dir += text("/", name(method));
    directories.push_back(config.run.dir);
    if (const int code = run_job(runtime, make_job(config, runtime.size())); code != 0) return code;
  }
  if (runtime.rank() != 0) return 0;
  std::fputs(text("\n", comparison_table(directories, true)).c_str(), stdout);
  if (arguments.has("report"))
    write_report(
        arguments.value("report"),
        {{"report", "compare"},
         {"run", {{name(kMethods[0]), run_data(directories[0])}, {name(kMethods[1]), run_data(directories[1])}}}});
  return 0;
}

}  // namespace

const Syntax& compare_syntax() {
  static const Syntax syntax{
      .usage = "lorashard compare --config <file> [--ranks N] | mpirun -np N lorashard compare --run --config <file>",
      .about =
          "LoRA beside full fine-tuning of one job, each on the fewest GPUs of device.hardware (h100 unless given) "
          "that hold\nit and both on as many as full fine-tuning needs. With --run both are run here, in run.dir/lora "
          "and run.dir/full.",
      .options = {{"ranks", "n", "GPUs that both are planned on, in place of the number that full fine-tuning needs"},
                  {"most", "n", "GPUs to look up to; 4096 unless given"},
                  {"run", "", "train both and show what they took"},
                  {"report", "file.html", "a page of figures and pictures, and its data as JSON beside it"},
                  {"json", "", "print one JSON object (planned)"}},
      .job_keys = true};
  return syntax;
}

int compare(dist::Runtime& runtime, int argc, char** argv) {
  const Arguments arguments(compare_syntax(), argc, argv);
  if (arguments.has("run")) return run_both(runtime, arguments);
  expect_one_rank(runtime, "compare");
  const core::Hardware hardware = find_hardware(arguments.config(), ranks_option(arguments, "ranks", 1 << 20));
  const int most = ranks_option(arguments, "most", 4096);
  SearchedJobs jobs;
  for (const Method method : kMethods) jobs[method] = std::make_unique<SearchedJob>(arguments, method, hardware);
  const std::vector<Column> columns = planned_columns(arguments, hardware, jobs, most);
  if (arguments.has("report")) write_report(arguments.value("report"), report_of(hardware, columns, jobs, most));
  const std::string page = arguments.has("json") ? boost::json::serialize(planned_json(hardware, columns)) + "\n"
                                                 : planned_table(hardware, columns);
  std::fputs(page.c_str(), stdout);
  return 0;
}

}  // namespace lorashard::launch
