#include "launch/report_files.hpp"

#include <filesystem>

#include "core/text_file.hpp"
#include "launch/report.hpp"
#include "launch/summary.hpp"

namespace lorashard::launch {

using boost::json::array;
using boost::json::object;

void write_report(const std::string& path, const object& data) {
  core::write_whole(path, report_page(data));
  core::write_whole(std::filesystem::path(path).replace_extension(".json"), boost::json::serialize(data) + "\n");
}

object run_data(const std::string& run_directory) {
  constexpr std::size_t kMostLines = 2000;  // as many as a chart has pixels
  const std::string path = run_directory + "/metrics.jsonl";
  std::vector<boost::json::value> lines;
  core::LineReader reader(path);
  for (std::string line; reader.next(line);) {
    boost::system::error_code error;
    lines.push_back(boost::json::parse(line, error));
    if (error || !lines.back().is_object())
      kernels::fail(kernels::Failure::configuration, kernels::text(reader.where(), ": is not a step's metrics"));
  }
  array metrics;
  const std::size_t every = std::max<std::size_t>(1, (lines.size() + kMostLines - 1) / kMostLines);
  for (std::size_t i = 0; i < lines.size(); ++i)
    if (i % every == 0 || i + 1 == lines.size() || lines[i].as_object().contains("valid_loss"))
      metrics.push_back(std::move(lines[i]));
  return {{"summary", read_summary(run_directory)}, {"metrics", metrics}};
}

}  // namespace lorashard::launch
