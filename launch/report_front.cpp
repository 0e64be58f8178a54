// GPUs against the time of a step: the page of a search, and a section of a comparison.
#include <algorithm>

#include "kernels/error.hpp"
#include "launch/report_parts.hpp"

namespace lorashard::launch {

using kernels::text;

namespace {

const std::vector<std::string> kMethods = {"lora", "full"};

std::vector<std::string> plan_row(const Source& source, const std::string& plan, const std::string& head) {
  return {head,
          source.html({plan + "/ranks", "count"}),
          source.html({plan + "/peak_bytes_per_rank", "bytes"}),
          source.html({plan + "/step_s", "ms"}),
          source.html({plan + "/tokens_per_s_per_gpu", "number"}),
          mesh_html(source, plan)};
}

Table plan_table(const std::string& corner) {
  return {{corner, "GPUs", "memory a GPU", "ms a step", "tokens/s a GPU", "layout"}, {}};
}

std::string named(const std::string& method, const std::string& what) {
  return text(swatch(method_color(method)), method_text(method), what);
}

std::string ends_card(const Source& source) {
  Table table = plan_table("");
  for (const std::string& method : kMethods) {
    const std::string smallest = pointer("smallest", method), fastest = pointer("fastest", method);
    if (source.object(smallest) != nullptr)
      table.rows.push_back(plan_row(source, smallest, named(method, ", the fewest GPUs")));
    else if (source.object("/smallest") != nullptr)
      table.rows.push_back({named(method, ""), "fits on no number looked at", "", "", "", ""});
    if (source.object(fastest) != nullptr)
      table.rows.push_back(
          plan_row(source, fastest, named(method, ", fastest on ") + source.html({fastest + "/ranks", "count"})));
  }
  return card("The fewest GPUs, and the fastest way to use a number of them", "Layouts are tensor × pipeline × data.",
              html(table));
}

}  // namespace

std::string front_card(const Source& source) {
  Chart chart{"GPUs", "seconds a step", "count", "seconds", true, false, 340, {}};
  Table table = plan_table("");
  for (const std::string& method : kMethods) {
    const std::string front = pointer("front", method);
    chart.series.push_back({method_text(method), method_color(method), front, "/ranks", "/step_s", true, true});
    if (source.size(front) > 0 && !table.rows.empty()) table.last_ruled = table.rows.size();
    for (std::size_t i = 0; i < source.size(front); ++i)
      table.rows.push_back(plan_row(source, front + pointer(i), named(method, "")));
  }
  return card("More GPUs, less time",
              "From the fewest GPUs that hold the job upwards: every number that is faster than all smaller ones, in "
              "its fastest "
              "layout. Both axes are logarithmic. Layouts are tensor × pipeline × data.",
              html(source, chart) + html(table));
}

std::string search_body(const Source& source) {
  const std::string hardware = source.string("/hardware");
  std::string below;
  if (source.find("/memory_bytes") != nullptr) below = source.html({"/memory_bytes", "bytes"}) + " of memory a GPU";
  std::string headline;
  for (const std::string& method : kMethods) {
    const std::string smallest = pointer("smallest", method);
    headline += tile(source, named(method, ", fewest"), {smallest + "/ranks", "count"}, "GPUs") +
                tile(source, named(method, ", a step there"), {smallest + "/step_s", "ms"}, "ms");
  }
  return header("search", text("How many ", hardware.empty() ? "GPUs" : source.html({"/hardware", "text"}), "?"),
                below) +
         tiles(headline) + front_card(source) + ends_card(source);
}

}  // namespace lorashard::launch
