// The page of a finished run, and the sections it shares with a comparison.
#include <algorithm>

#include "kernels/error.hpp"
#include "launch/report_parts.hpp"

namespace lorashard::launch {

using kernels::text;

namespace {

std::string headline(const Source& source) {
  return tiles(
      tile(source, "steps", {"/summary/steps", "count"}) +
      tile(source, "loss of the last step", {"/summary/loss", "fixed4"}) +
      tile(source, "speed", {"/summary/tokens_per_s", "number"}, "tokens/s") +
      tile(source, "spent in steps", {"/summary/step_seconds", "seconds"}) +
      tile(source, "trained", {"/summary/trained_parameters", "count"}) +
      tile(source, "of all parameters", {"/summary/parameters", "count"}) +
      tile(source, "tokens", {"/summary/tokens", "count"}) +
      tile(source, "memory, fullest rank", {"/summary/per_rank/*/peak_bytes", "bytes", {}, {}, {}, {}, "max"}) +
      tile(source, "gradients summed", {"/summary/reduced_bytes_per_step", "bytes"}, "a rank and step") +
      tile(source, "checkpoint", {"/summary/checkpoint_bytes", "bytes"}) +
      tile(source, "products, share of the library's speed", {"/summary/ceiling_share", "percent"}));
}

// One curve of metrics for each run.
std::string metric_chart(const Source& source, const std::vector<NamedRun>& runs, const std::string& key,
                         const std::string& name, int height, bool from_zero) {
  Chart chart{"steps done", name, "count", "number", false, from_zero, height, {}};
  for (const NamedRun& run : runs)
    chart.series.push_back(
        {runs.size() > 1 ? run.name : "", method_color(run.method), run.at + "/metrics", "/step", "/" + key});
  return html(source, chart);
}

std::string small_charts_card(const Source& source, const std::vector<NamedRun>& runs) {
  const std::string charts = metric_chart(source, runs, "lr", "learning rate", 130, true) +
                             metric_chart(source, runs, "grad_norm", "norm of the gradient", 130, true);
  return card("Learning rate and gradient", "", charts.empty() ? "" : "<div class=\"columns\">" + charts + "</div>");
}

std::string phase_card(const Source& source, const NamedRun& run) {
  const std::string ranks = run.at + "/summary/per_rank";
  std::vector<std::string> names = source.keys(ranks + "/0/seconds");
  if (names.empty()) return "";
  const Palette palette(names);
  BarRow row{"mean of ranks", {}, {ranks + "/*/seconds/*", "seconds", {}, {}, {}, run.at + "/summary/ranks", "sum"}};
  Table table{{"mean of ranks", "seconds", "share", "sent by a rank"}, {}};
  for (const std::string& name : names) {
    const std::string at = ranks + "/*/seconds" + pointer(name);
    row.segments.push_back({{at, "fixed2", {}, {}, {}, {}, "mean"}, palette[name], escaped(name)});
    if (source.value_or_zero(row.segments.back().figure) == 0) continue;
    const Figure sent{ranks + "/*/sent_bytes" + pointer(name), "bytes", {}, {}, {}, {}, "mean"};
    table.rows.push_back({swatch(palette[name]) + source.html({ranks + "/0/seconds" + pointer(name), "key"}),
                          source.html({at, "fixed2", {}, {}, {}, {}, "mean"}),
                          source.html({at, "percent", {}, {}, {}, ranks + "/*/seconds/*", "sum"}),
                          source.value_or_zero(sent) > 0 ? source.html(sent) : ""});
  }
  return card("Time by phase", "Of the whole run: the phases add up to its wall time.",
              html(source, Bars{"seconds", {row}}) + html(table));
}

std::string last_name(const Source& source, const std::string& at) { return source.html({at + "/name", "text"}); }

// What was planned beside what was observed, of the entries of a list.
std::string pairs(const Source& source, const std::string& list, const char* bar_as, const char* as) {
  Bars bars{bar_as, {}, {}, {}, {}};
  for (std::size_t i = 0; i < source.size(list); ++i) {
    const std::string at = list + pointer(i);
    for (const auto& [key, color, name] :
         {std::tuple{"/planned", "planned", "planned"}, {"/observed", "observed", "observed"}})
      if (source.value({at + key, as}))
        bars.rows.push_back({std::string(key) == "/planned" ? last_name(source, at) : "<span class=\"none\"></span>",
                             {{{at + key, as}, color, name}},
                             {at + key, as}});
  }
  return html(source, bars);
}

std::string against_plan_card(const Source& source) {
  const std::string at = "/summary/against_plan";
  Table table{{"", "planned", "observed", "observed / planned"}, {}};
  const auto add = [&](const std::string& head, const std::string& entry, const char* as) {
    const Figure planned{entry + "/planned", as}, observed{entry + "/observed", as};
    if (!source.value(planned) && !source.value(observed)) return;
    const Figure ratio{entry + "/observed", "percent", {}, {}, {}, entry + "/planned"};
    table.rows.push_back({head, source.html(planned), source.html(observed), source.html(ratio)});
  };
  add("a step, ms", at + "/step_s", "ms");
  add("peak of the fullest rank", at + "/peak_bytes", "bytes");
  for (std::size_t i = 0; i < source.size(at + "/time"); ++i)
    add(last_name(source, at + "/time" + pointer(i)) + ", ms a step", at + "/time" + pointer(i), "ms");
  for (std::size_t i = 0; i < source.size(at + "/memory"); ++i)
    add(last_name(source, at + "/memory" + pointer(i)), at + "/memory" + pointer(i), "bytes");
  if (table.rows.empty()) return "";
  const std::string time = pairs(source, at + "/time", "seconds", "ms");
  const std::string memory = pairs(source, at + "/memory", "bytes", "bytes");
  return card("Planned and observed", "What a plan said of this job beforehand, and what the run measured.",
              legend({{"planned", "planned"}, {"observed", "observed"}}) +
                  (time.empty() ? "" : "<h3>Time of a step, ms</h3>" + time) +
                  (memory.empty() ? "" : "<h3>Memory</h3>" + memory) + html(table));
}

}  // namespace

std::string loss_card(const Source& source, const std::vector<NamedRun>& runs) {
  Chart chart{"steps done", "loss, nats a token", "count", "fixed4", false, false, 320, {}};
  for (const NamedRun& run : runs) {
    const std::string list = run.at + "/metrics", color = method_color(run.method);
    const std::string who = runs.size() > 1 ? run.name + ", " : "";
    chart.series.push_back({who + "training", color, list, "/step", "/loss"});
    // Losses of a line's step are from before its update; what is held out is evaluated after it.
    chart.series.push_back({who + "held out", color, list, "/step", "/valid_loss", false, true, 1});
    chart.series.push_back({"", color, list, "/step", "/valid_loss_before", false, true});
  }
  return card("Loss", "", html(source, chart));
}

std::string run_memory_card(const Source& source, const std::vector<NamedRun>& runs) {
  std::vector<std::string> names;
  for (const NamedRun& run : runs)
    for (const std::string& name : source.keys(run.at + "/summary/per_rank/0/memory"))
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  if (names.empty()) return "";
  const Palette palette(names);
  Bars bars{"bytes", {}, {}, {}, "bytes"};
  for (const NamedRun& run : runs) {
    const std::string ranks = run.at + "/summary/per_rank";
    std::string before;
    std::size_t first = 0;
    for (std::size_t i = 0; i < source.size(ranks); ++i) {
      const std::string rank = ranks + pointer(i), who = runs.size() > 1 ? run.name + ", " : "";
      BarRow row{"", {}, {rank + "/peak_bytes", "bytes"}, {rank + "/peak_bytes", "bytes"}};
      std::string alike;
      for (const std::string& name : names) {
        row.segments.push_back({{rank + "/memory" + pointer(name), "bytes"}, palette[name], escaped(name)});
        alike += source.text(row.segments.back().figure) + ",";
      }
      alike += source.text(row.end);
      const auto number = [&](std::size_t n) { return source.html({ranks + pointer(n), "key"}); };
      if (alike == before) {
        bars.rows.back().head = text(who, "ranks ", number(first), " to ", number(i));
        continue;
      }
      row.head = text(who, "rank ", number(i));
      bars.rows.push_back(row);
      before = alike, first = i;
    }
  }
  std::vector<LegendEntry> entries;
  for (const std::string& name : names) entries.push_back({palette[name], escaped(name)});
  entries.push_back({"mark", "together at any one time"});
  return card("Memory of a rank",
              "What the program asked for, each category at its own peak. Categories need not peak at the same moment: "
              "what is held together at any one time is marked, and written beside the bar.",
              legend(entries) + html(source, bars) + columns_of(source, bars, "peak", palette));
}

std::string speed_card(const Source& source, const std::vector<NamedRun>& runs) {
  return card("Speed", "", metric_chart(source, runs, "tokens_per_s", "tokens/s", 180, true));
}

std::string held_out_card(const Source& source, const std::vector<NamedRun>& runs) {
  Table table{{"held out", "loss before", "loss after"}, {}};
  for (const NamedRun& run : runs) {
    const std::string sets = run.at + "/summary/valid";
    for (std::size_t i = 0; i < source.size(sets); ++i) {
      const std::string set = sets + pointer(i);
      table.rows.push_back({(runs.size() > 1 ? swatch(method_color(run.method)) + run.name + ", " : "") +
                                source.html({set + "/file", "text"}),
                            source.html({set + "/before", "fixed4"}), source.html({set + "/after", "fixed4"})});
    }
  }
  return card("Held out", "", html(table));
}

std::string run_body(const Source& source) {
  const std::string method = source.string("/summary/method");
  const std::vector<NamedRun> runs{{"", method, method_text(method)}};
  std::string below;
  const auto add = [&](const std::string& before, const std::string& shown) {
    if (!shown.empty()) below += (below.empty() ? "" : ", ") + before + shown;
  };
  const auto string = [&](const std::string& at) { return source.string(at).empty() ? "" : source.html({at, "text"}); };
  add("", string("/summary/device"));
  add("", string("/summary/precision"));
  const std::string mesh = mesh_html(source, "/summary");
  add("", mesh.empty() ? "" : mesh + " (tensor × pipeline × data)");
  add("result ", string("/summary/result"));
  const std::string name = source.string("/name").empty() ? "A finished run" : source.html({"/name", "text"});
  return header("run", text(name, method.empty() ? "" : ": ", method.empty() ? "" : method_text(method)), below) +
         headline(source) + loss_card(source, runs) + held_out_card(source, runs) + against_plan_card(source) +
         phase_card(source, runs[0]) + run_memory_card(source, runs) + speed_card(source, runs) +
         small_charts_card(source, runs);
}

}  // namespace lorashard::launch
