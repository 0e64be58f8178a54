// LoRA beside full fine-tuning: planned, run, or both.
#include <algorithm>

#include "kernels/error.hpp"
#include "launch/report_parts.hpp"

namespace lorashard::launch {

using kernels::text;

namespace {

struct Column {
  std::string at, head, method;
};

std::vector<Column> planned_columns(const Source& source) {
  std::vector<Column> columns;
  for (const std::string& key : source.keys("/planned")) {
    const std::string at = "/planned" + pointer(key), method = source.string(at + "/method");
    if (source.object(at) != nullptr)
      columns.push_back({at, swatch(method_color(method)) + source.html({at, "key"}), method});
  }
  return columns;
}

// Both methods on the fewest GPUs that hold them: the first column of each.
std::string savings(const Source& source, const std::vector<Column>& columns) {
  const auto of = [&](const char* method) {
    const auto at = std::find_if(columns.begin(), columns.end(), [&](const Column& c) { return c.method == method; });
    return at == columns.end() ? "" : at->at;
  };
  const std::string lora = of("lora"), full = of("full");
  if (lora.empty() || full.empty()) return "";
  const auto saving = [&](const std::string& label, const std::string& key, const char* as) {
    const Figure less{lora + key, as}, more{full + key, as}, times{full + key, "times", {}, {}, {}, lora + key};
    if (!source.value(less) || !source.value(more)) return std::string();
    const bool by_factor = source.value_or_zero(less) > 0 && source.value_or_zero(times) >= 1.005;
    return text("<div class=\"tile pair\"><dt>", label, "</dt><dd class=\"lora\">", source.html(less),
                "<small>LoRA</small></dd><dd class=\"full\">", source.html(more), "<small>full</small></dd>",
                by_factor ? text("<dd class=\"ratio\">factor ", source.html(times), "</dd>") : "", "</div>");
  };
  return tiles(
      saving("GPUs, the fewest", "/ranks", "count") + saving("trained parameters", "/trained_parameters", "short") +
          saving("GPU-hours", "/gpu_hours", "number") + saving("checkpoint", "/checkpoint_bytes", "bytes") +
          saving("storage of <span class=\"label\">100</span> models", "/storage_bytes_of_100_models", "bytes"),
      "pairs");
}

std::string planned_card(const Source& source, const std::vector<Column>& columns) {
  Table table{{source.string("/hardware").empty() ? "planned" : "planned, " + source.html({"/hardware", "text"})}, {}};
  for (const Column& column : columns) table.head.push_back(column.head);
  const auto add = [&](const std::string& label, auto cell) {
    table.rows.push_back({label});
    for (const Column& column : columns) table.rows.back().push_back(cell(column));
  };
  const auto figure = [&](const std::string& label, const std::string& key, const char* as) {
    add(label, [&](const Column& column) { return source.html({column.at + key, as}); });
  };
  figure("GPUs", "/ranks", "count");
  add("layout: tensor × pipeline × data", [&](const Column& column) { return mesh_html(source, column.at); });
  figure("trained parameters", "/trained_parameters", "count");
  figure("memory a GPU", "/peak_bytes_per_rank", "bytes");
  add("memory in all", [&](const Column& column) {
    return source.html({column.at + "/peak_bytes_per_rank", "bytes", {}, {}, column.at + "/ranks"});
  });
  figure("ms a step", "/step_s", "ms");
  figure("tokens/s a GPU", "/tokens_per_s_per_gpu", "number");
  figure("GPU-hours", "/gpu_hours", "number");
  figure("bytes all-reduced a step", "/reduced_bytes_per_step", "bytes");
  figure("checkpoint", "/checkpoint_bytes", "bytes");
  figure("storage of <span class=\"label\">100</span> models", "/storage_bytes_of_100_models", "bytes");
  return columns.empty() ? "" : card("Planned, side by side", "", html(table));
}

std::string gpus_card(const Source& source, const std::vector<Column>& columns) {
  Bars bars{"count", {}, {}, {}, "GPUs"};
  for (const Column& column : columns) {
    const Figure ranks{column.at + "/ranks", "count"};
    bars.rows.push_back({column.head, {{ranks, method_color(column.method), method_text(column.method)}}, ranks});
  }
  return card("GPUs", "", html(source, bars));
}

std::string planned_memory_card(const Source& source, const std::vector<Column>& columns) {
  std::vector<std::string> ranks;
  std::vector<std::string> heads;
  for (const Column& column : columns) {
    std::string most;
    for (const std::string& rank : fullest_ranks(source, column.at))
      if (most.empty() ||
          source.value_or_zero({rank + "/peak_bytes", ""}) > source.value_or_zero({most + "/peak_bytes", ""}))
        most = rank;
    if (!most.empty()) ranks.push_back(most), heads.push_back(column.head);
  }
  if (ranks.empty()) return "";
  const std::vector<std::string> names = memory_categories(source, ranks);
  const Palette palette(names);
  Bars bars{"bytes", {}, "memory of a GPU", {"/memory_bytes", "bytes"}, "bytes"};
  for (std::size_t i = 0; i < ranks.size(); ++i) bars.rows.push_back(memory_row(source, ranks[i], palette, heads[i]));
  std::vector<LegendEntry> entries;
  for (const std::string& name : names) entries.push_back({palette[name], escaped(name)});
  entries.push_back({"mark", "together at any one time"});
  return card(
      "Memory of a GPU",
      "The fullest rank, each category at its own peak. Categories need not peak at the same moment: what is held "
      "together at any one time is marked, and written beside the bar.",
      legend(entries) + html(source, bars) + columns_of(source, bars, "peak", palette));
}

std::string run_table_card(const Source& source, const std::vector<NamedRun>& runs) {
  Table table{{""}, {}};
  for (const NamedRun& run : runs) table.head.push_back(swatch(method_color(run.method)) + run.name);
  const auto figure = [&](const std::string& label, const std::string& key, const char* as, const char* over = "") {
    std::vector<std::string> row{label};
    bool any = false;
    for (const NamedRun& run : runs) {
      const Figure cell{run.at + "/summary" + key, as, {}, {}, {}, {}, over};
      any = any || !source.text(cell).empty();
      row.push_back(source.html(cell));
    }
    if (any) table.rows.push_back(row);
  };
  figure("mesh: tensor × pipeline × data", "/mesh", "text");
  figure("device", "/device", "text");
  figure("trained parameters", "/trained_parameters", "count");
  figure("steps", "/steps", "count");
  figure("tokens/s", "/tokens_per_s", "number");
  figure("bytes all-reduced a step", "/reduced_bytes_per_step", "bytes");
  figure("checkpoint", "/checkpoint_bytes", "bytes");
  figure("memory of the fullest rank", "/per_rank/*/peak_bytes", "bytes", "max");
  figure("planned for it", "/planned/peak_bytes", "bytes");
  figure("memory of its process", "/per_rank/*/resident_bytes", "bytes", "max");
  figure("loss of the last step", "/loss", "fixed4");
  return card("Run, side by side", "", html(table));
}

}  // namespace

std::string compare_body(const Source& source) {
  const std::vector<Column> columns = planned_columns(source);
  std::vector<NamedRun> runs;
  for (const std::string& method : source.keys("/run"))
    if (source.object("/run" + pointer(method)) != nullptr)
      runs.push_back({"/run" + pointer(method), method, method_text(method)});
  std::string below = source.string("/hardware").empty() ? "" : source.html({"/hardware", "text"});
  if (!below.empty() && source.find("/memory_bytes") != nullptr)
    below += ", " + source.html({"/memory_bytes", "bytes"}) + " of memory a GPU";
  if (!columns.empty() && source.find(columns[0].at + "/parameters") != nullptr)
    below += text(below.empty() ? "" : "; ", "a base of ", source.html({columns[0].at + "/parameters", "short"}),
                  " parameters");
  std::string page = header("compare", "LoRA beside full fine-tuning", below) + savings(source, columns) +
                     gpus_card(source, columns) + planned_memory_card(source, columns) + planned_card(source, columns) +
                     front_card(source);
  if (!runs.empty())
    page += loss_card(source, runs) + run_memory_card(source, runs) + speed_card(source, runs) +
            held_out_card(source, runs) + run_table_card(source, runs);
  return page;
}

}  // namespace lorashard::launch
