// The page of one plan.
#include <algorithm>

#include "kernels/error.hpp"
#include "launch/report_parts.hpp"

namespace lorashard::launch {

using kernels::text;

namespace {

const std::string kPlan;  // at the top of the data

std::string verdict(const Source& source) {
  const boost::json::value* fits = source.find("/fits");
  if (fits == nullptr || !fits->is_bool()) return "";
  const std::string peak = "/peak_bytes_per_rank", memory = "/memory_bytes";
  const bool good = fits->get_bool();
  const Figure rest{good ? memory : peak, "bytes", {}, good ? peak : memory};
  std::string line = text("<strong>", good ? "Fits." : "Does not fit.", "</strong> ");
  if (source.value(rest))
    line += text("The fullest GPU needs ", source.html({peak, "bytes"}), " of ", source.html({memory, "bytes"}), ", ",
                 source.html(rest), good ? " to spare." : " too much.");
  return text("<p class=\"verdict ", good ? "good" : "bad", "\">", line, "</p>\n");
}

std::string headline(const Source& source) {
  return tiles(tile(source, "time of a step", {"/step_s", "ms"}, "ms") +
               tile(source, "speed", {"/tokens_per_s", "number"}, "tokens/s") +
               tile(source, "speed of a GPU", {"/tokens_per_s_per_gpu", "number"}, "tokens/s") +
               tile(source, "model's work", {"/model_tflops_per_gpu", "number"}, "TFLOP/s a GPU") +
               tile(source, "whole job", {"/gpu_hours", "number"}, "GPU-hours") +
               tile(source, "trained", {"/trained_parameters", "count"}) +
               tile(source, "of all parameters", {"/parameters", "count"}) +
               tile(source, "checkpoint", {"/checkpoint_bytes", "bytes"}) +
               tile(source, "gradients summed", {"/reduced_bytes_per_step", "bytes"}, "a GPU and step") +
               tile(source, "tokens a step", {"/tokens_per_step", "count"}) +
               tile(source, "base read at the start", {"/load_bytes_per_node", "bytes"}, "a node") +
               tile(source, "host memory for that", {"/host_copy_bytes_per_node", "bytes"}, "a node"));
}

// "stages 2 to 7" of the numbers at two pointers.
std::string range(const Source& source, const std::string& first, const std::string& last) {
  if (first == last) return "stage " + source.html({first, "count"});
  return text("stages ", source.html({first, "count"}), " to ", source.html({last, "count"}));
}

std::string figures_of(const Source& source, const BarRow& row) {
  std::string all;
  for (const Segment& segment : row.segments) all += segment.name + source.text(segment.figure) + ",";
  return all + source.text(row.end);
}

std::string memory_card(const Source& source) {
  const std::vector<std::string> ranks = fullest_ranks(source, kPlan);
  if (ranks.empty()) return "";
  const std::vector<std::string> names = memory_categories(source, ranks);
  const Palette palette(names);
  Bars bars{"bytes", {}, "memory of a GPU", {"/memory_bytes", "bytes"}, "bytes"};
  for (std::size_t first = 0, last; first < ranks.size(); first = last + 1) {
    const BarRow row = memory_row(source, ranks[first], palette, "");
    const std::string alike = figures_of(source, row);
    for (last = first;
         last + 1 < ranks.size() && figures_of(source, memory_row(source, ranks[last + 1], palette, "")) == alike;)
      ++last;
    bars.rows.push_back(row);
    bars.rows.back().head = range(source, ranks[first] + "/stage", ranks[last] + "/stage");
  }
  std::vector<LegendEntry> named;
  for (const std::string& name : names) named.push_back({palette[name], escaped(name)});
  named.push_back({"mark", "together at any one time"});
  return card("Memory of a GPU",
              "The fullest rank of each pipeline stage, each category at its own peak. Categories need not peak at the "
              "same moment: what is held together at any one time is marked, and written beside the bar.",
              legend(named) + html(source, bars) + columns_of(source, bars, "peak", palette));
}

// Of the fullest rank of all: what its activations are.
std::string activation_card(const Source& source) {
  std::string most;
  double most_bytes = -1;
  for (std::size_t i = 0; i < source.size("/memory"); ++i) {
    const std::string rank = pointer("memory", i);
    const double bytes = source.value_or_zero({rank + "/peak_bytes", ""});
    if (source.object(rank + "/activation_parts") != nullptr && bytes > most_bytes) most = rank, most_bytes = bytes;
  }
  if (most.empty()) return "";
  Bars bars{"bytes", {}, {}, {}, "bytes"};
  for (const std::string& name : source.keys(most + "/activation_parts")) {
    const Figure figure{most + "/activation_parts" + pointer(name), "bytes"};
    bars.rows.push_back({source.html({figure.at, "key"}), {{figure, "c4", escaped(name)}}, figure});
  }
  return card("What the activations are",
              text("Of stage ", source.html({most + "/stage", "count"}), "'s fullest rank."), html(source, bars));
}

const std::vector<std::pair<const char*, const char*>> kParts = {{"products", "products with the base"},
                                                                 {"adapters", "products of adapters"},
                                                                 {"attention", "attention"},
                                                                 {"kernels", "other kernels"},
                                                                 {"optimizer", "optimizer"},
                                                                 {"tensor", "tensor traffic"},
                                                                 {"pipeline", "pipeline traffic"},
                                                                 {"data", "data traffic"},
                                                                 {"bubble", "pipeline bubble"}};

std::string time_card(const Source& source) {
  if (source.object("/time") == nullptr) return "";
  std::vector<std::string> keys;
  for (const auto& [key, name] : kParts) keys.push_back(key);
  const Palette palette(keys);
  BarRow row{"a step", {}, {"/step_s", "seconds"}};
  Table table{{"mean of stages", "ms", "share"}, {}};
  const auto add = [&](const std::string& head, const std::string& at) {
    const Figure seconds{at, "ms"}, share{at, "percent", {}, {}, {}, "/step_s"};
    if (source.value(seconds)) table.rows.push_back({head, source.html(seconds), source.html(share)});
  };
  for (const auto& [key, name] : kParts) {
    const std::string at = text("/time/", key);
    row.segments.push_back({{at, "ms"}, palette[key], name});
    add(swatch(palette[key]) + name, at);
  }
  table.last_ruled = table.rows.size();
  add("together", "/step_s");
  add("of it recomputed", "/time/recomputed");
  add("beside it: hidden data traffic", "/time/hidden");
  return card("Time of a step", "Mean over the pipeline stages: the parts add up to the step.",
              html(source, Bars{"seconds", {row}}) + html(table));
}

std::string work_card(const Source& source) {
  Bars bars{"tera", {}, {}, {}, "TFLOP"};
  Table table{{"a rank and step", "layers", swatch("c0") + "TFLOP useful", swatch("c2") + "TFLOP recomputed"}, {}};
  const auto cells = [&](std::size_t stage) {
    const std::string at = pointer("stages", stage);
    const std::string again = at + "/recomputed_flops";
    return std::vector<Figure>{{at + "/layers", "count"}, {at + "/flops", "tera", {}, again}, {again, "tera"}};
  };
  const auto shown = [&](std::size_t stage) {
    std::string all;
    for (const Figure& figure : cells(stage)) all += source.text(figure) + ",";
    return all;
  };
  for (std::size_t first = 0, last; first < source.size("/stages"); first = last + 1) {
    for (last = first; last + 1 < source.size("/stages") && shown(last + 1) == shown(first);) ++last;
    const std::vector<Figure> figures = cells(first);
    if (!source.value(figures[1])) return "";
    const auto number = [&](std::size_t stage) { return source.html({pointer("stages", stage), "key"}); };
    const std::string head =
        first == last ? "stage " + number(first) : text("stages ", number(first), " to ", number(last));
    bars.rows.push_back({head,
                         {{figures[1], "c0", "useful"}, {figures[2], "c2", "recomputed"}},
                         {pointer("stages", first) + "/flops", "tera"}});
    table.rows.push_back({head, source.html(figures[0]), source.html(figures[1]), source.html(figures[2])});
  }
  // A single bar of a single colour says nothing.
  const bool compared =
      bars.rows.size() > 1 || (bars.rows.size() == 1 && source.value_or_zero(bars.rows[0].segments[1].figure) > 0);
  return card("Work of a stage", "Of a rank in a step.",
              (compared ? legend({{"c0", "useful"}, {"c2", "recomputed"}}) + html(source, bars) : "") + html(table));
}

// As on the page of `plan`: of each axis and verb the stage that moves most.
std::string traffic_card(const Source& source) {
  std::vector<std::pair<std::string, std::string>> most;  // by axis and verb: where it stands
  for (std::size_t stage = 0; stage < source.size("/stages"); ++stage)
    for (std::size_t i = 0; i < source.size(pointer("stages", stage) + "/traffic"); ++i) {
      const std::string at = pointer("stages", stage) + "/traffic" + pointer(i);
      const std::string key = source.string(at + "/axis") + " " + source.string(at + "/verb");
      if (source.value_or_zero({at + "/ranks", ""}) <= 1) continue;
      const auto known = std::find_if(most.begin(), most.end(), [&](const auto& entry) { return entry.first == key; });
      if (known == most.end())
        most.emplace_back(key, at);
      else if (source.value_or_zero({at + "/bytes", ""}) > source.value_or_zero({known->second + "/bytes", ""}))
        known->second = at;
    }
  Table table{{"axis of the mesh, verb", "ranks", "messages", "bytes"}, {}};
  for (const auto& [key, at] : most)
    table.rows.push_back({source.html({at + "/axis", "text"}) + " " + source.html({at + "/verb", "text"}),
                          source.html({at + "/ranks", "count"}), source.html({at + "/messages", "count"}),
                          source.html({at + "/bytes", "bytes"})});
  return card("Traffic of a rank", "In a step, of the stage that moves most.", html(table));
}

}  // namespace

std::vector<std::string> fullest_ranks(const Source& source, const std::string& plan) {
  std::vector<std::string> of_stage;
  std::vector<double> stages;
  for (std::size_t i = 0; i < source.size(plan + "/memory"); ++i) {
    const std::string rank = plan + "/memory" + pointer(i);
    const double stage = source.value_or_zero({rank + "/stage", ""});
    const auto known = std::find(stages.begin(), stages.end(), stage);
    if (known == stages.end()) {
      stages.push_back(stage);
      of_stage.push_back(rank);
    } else if (std::string& most = of_stage[known - stages.begin()];
               source.value_or_zero({rank + "/peak_bytes", ""}) > source.value_or_zero({most + "/peak_bytes", ""})) {
      most = rank;
    }
  }
  return of_stage;
}

BarRow memory_row(const Source& source, const std::string& rank, const Palette& palette, const std::string& head) {
  BarRow row{head, {}, {rank + "/peak_bytes", "bytes"}};
  for (const std::string& name : source.keys(rank + "/peak"))
    row.segments.push_back({{rank + "/peak" + pointer(name), "bytes"}, palette[name], escaped(name)});
  if (source.value({rank + "/libraries", ""})) {
    row.segments.push_back({{rank + "/libraries", "bytes"}, palette["libraries"], "libraries"});
    row.end.plus = rank + "/libraries";
  }
  row.mark = row.end;
  return row;
}

std::vector<std::string> memory_categories(const Source& source, const std::vector<std::string>& ranks) {
  std::vector<std::string> names;
  bool libraries = false;
  for (const std::string& rank : ranks) {
    for (const std::string& name : source.keys(rank + "/peak"))
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    libraries = libraries || source.value({rank + "/libraries", ""});
  }
  if (libraries) names.emplace_back("libraries");
  return names;
}

std::string plan_body(const Source& source) {
  const std::string method = source.string("/method");
  std::string title = method.empty() ? "A plan" : method == "full" ? "Full fine-tuning" : method_text(method);
  if (source.find("/ranks") != nullptr) title += " on " + source.html({"/ranks", "count"}) + " × ";
  if (source.find("/ranks") != nullptr)
    title += source.string("/hardware").empty() ? "GPU" : source.html({"/hardware", "text"});
  const std::string mesh = mesh_html(source, kPlan, true);
  return header("plan", title, mesh) + verdict(source) + headline(source) + memory_card(source) +
         activation_card(source) + time_card(source) + timeline_card(source, kPlan) + work_card(source) +
         traffic_card(source);
}

}  // namespace lorashard::launch
