// Finished runs side by side (summary.hpp: comparison_table).
#include <boost/json.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "launch/against_plan.hpp"
#include "launch/summary.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using kernels::fail;
using kernels::Failure;
using kernels::text;

boost::json::object read_summary(const std::string& directory) {
  const std::string path = directory + "/summary.json";
  std::ifstream file(path);
  if (!file) fail(Failure::configuration, text(path, ": cannot be read; a run that is finished has one"));
  std::stringstream content;
  content << file.rdbuf();
  boost::system::error_code error;
  const boost::json::value value = boost::json::parse(content.str(), error);
  if (error || !value.is_object()) fail(Failure::configuration, text(path, ": is not a run's summary"));
  return value.get_object();
}

namespace {

double number(const boost::json::object& object, const char* key) { return object.at(key).to_number<double>(); }

using Cell = std::function<std::string(const boost::json::object&)>;

// The largest of all ranks.
Cell largest(const char* key, bool category) {
  return [=](const boost::json::object& run) {
    double most = 0;
    for (const boost::json::value& rank : run.at("per_rank").as_array()) {
      const boost::json::object& figures = rank.as_object();
      most = std::max(most, number(category ? figures.at("memory").as_object() : figures, key));
    }
    return bytes_text(most);
  };
}

Cell held_out(std::size_t set, const char* when) {
  return [=](const boost::json::object& run) {
    const boost::json::array& sets = run.at("valid").as_array();
    if (set >= sets.size() || !sets[set].as_object().if_contains(when)) return std::string("-");
    return fixed_text(number(sets[set].as_object(), when), 4);
  };
}

std::string planned_peak(const boost::json::object& run) {
  const boost::json::value* figures = run.if_contains("against_plan");  // runs of older versions do not say
  return figures ? bytes_text(number(figures->at("peak_bytes").as_object(), "planned")) : "-";
}

// A row for every memory category and every held-out set of the first run.
std::vector<std::pair<std::string, Cell>> rows_for(const boost::json::object& first) {
  std::vector<std::pair<std::string, Cell>> rows;
  const auto add = [&](const std::string& label, Cell cell) { rows.emplace_back(label, std::move(cell)); };
  const auto count = [](const char* key) {
    return [=](const boost::json::object& run) { return count_text(std::llround(number(run, key))); };
  };
  const auto bytes = [](const char* key) {
    return [=](const boost::json::object& run) { return bytes_text(number(run, key)); };
  };
  add("method", [](const boost::json::object& run) { return std::string(run.at("method").as_string()); });
  add("mesh", [](const boost::json::object& run) { return std::string(run.at("mesh").as_string()); });
  add("device", [](const boost::json::object& run) {  // runs of older versions do not say
    const boost::json::value* device = run.if_contains("device");
    return device ? std::string(device->as_string()) : std::string("-");
  });
  add("trained parameters", count("trained_parameters"));
  add("steps", count("steps"));
  add("tokens/s", count("tokens_per_s"));
  add("bytes all-reduced a step", bytes("reduced_bytes_per_step"));
  add("checkpoint", bytes("checkpoint_bytes"));
  for (int c = 0; c < kernels::kCategoryCount; ++c) {
    const char* category = name(static_cast<kernels::Category>(c));
    add(text("memory a rank, ", category), largest(category, true));
  }
  add("memory a rank, together", largest("peak_bytes", false));
  add("memory a rank, process", largest("resident_bytes", false));
  std::size_t set = 0;
  for (const boost::json::value& valid : first.at("valid").as_array()) {
    const std::string file = std::filesystem::path(std::string(valid.as_object().at("file").as_string())).stem();
    add(text("loss on ", file, ", before"), held_out(set, "before"));
    add(text("loss on ", file, ", after"), held_out(set++, "after"));
  }
  return rows;
}

}  // namespace

std::string against_plan_text_of(const std::string& run_directory) {
  const boost::json::object run = read_summary(run_directory);
  try {
    return run.contains("against_plan") ? against_plan_text(run.at("against_plan").as_object()) + "\n" : "";
  } catch (const std::exception& error) {
    fail(Failure::configuration, text(run_directory, "/summary.json: a figure is missing: ", error.what()));
  }
}

std::string comparison_table(const std::vector<std::string>& run_directories, bool planned) {
  std::vector<boost::json::object> runs;
  std::vector<std::vector<std::string>> cells{{"run"}};
  for (const std::string& directory : run_directories) {
    runs.push_back(read_summary(directory));
    const std::filesystem::path path(directory);
    cells[0].push_back(path.has_filename() ? path.filename() : path.parent_path().filename());
  }
  if (runs.empty())
    fail(Failure::configuration, "command line: --table: found no run directory, expected at least one");
  try {
    auto rows = rows_for(runs[0]);
    if (planned) rows.emplace_back("memory a rank, planned", planned_peak);
    for (const auto& [label, cell] : rows) {
      cells.push_back({label});
      for (const boost::json::object& run : runs) cells.back().push_back(cell(run));
    }
  } catch (const std::exception& error) {
    fail(Failure::configuration, text("summary.json: a figure is missing: ", error.what()));
  }
  return table_text(cells);
}

}  // namespace lorashard::launch
