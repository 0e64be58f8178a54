// lorashard check: are the nodes of an allocation alike, do they reach each other, and do they see the same files? Run
// ahead of a job, with a rank for each GPU of every node.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "launch/check_measure.hpp"
#include "launch/subcommands.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using kernels::text;

namespace {

std::string measured(double value, double unit, int decimals) {
  return value > 0 ? fixed_text(value / unit, decimals) : "-";
}

std::string nodes_table(const std::vector<NodeRow>& rows) {
  const bool gpus =
      std::any_of(rows.begin(), rows.end(), [](const NodeRow& r) { return r.gpus > 0 || !r.card.empty(); });
  std::vector<std::vector<std::string>> table{
      {"node", "ranks", "cores", "free memory", "clock, ms", "next node, us", "GB/s", "folder"}};
  if (gpus) table[0].insert(table[0].end(), {"GPUs", "pairs, GB/s", "card", "driver"});
  for (const NodeRow& row : rows) {
    table.push_back({row.host, std::to_string(row.ranks), std::to_string(row.cores), bytes_text(row.free_memory_bytes),
                     fixed_text(std::abs(row.skew_ms) < 5e-4 ? 0 : row.skew_ms, 3), measured(row.latency_s, 1e-6, 1),
                     measured(row.link_bytes_per_s, 1e9, 3),
                     row.folder.empty()    ? "-"
                     : row.folder == "yes" ? "yes"
                                           : "no"});
    if (gpus)
      table.back().insert(table.back().end(),
                          {std::to_string(row.gpus), measured(row.pair_bytes_per_s, 1e9, 1),
                           row.card.empty() ? "-" : row.card, row.driver.empty() ? "-" : row.driver});
  }
  return table_text(table);
}

// What the table could not say, and why.
std::string not_tried(const std::vector<NodeRow>& rows, bool folder) {
  std::string lines;
  const int ranks = rows[0].ranks;
  int gpus = 0;
  for (const NodeRow& row : rows) gpus = std::max(gpus, row.gpus);
  const std::string no_pairs = no_pairs_reason(ranks, gpus);
  if (!no_pairs.empty()) lines += text("GPU pairs were not tried: ", no_pairs, "\n");
  if (no_pairs.empty() && ranks < gpus)
    lines += text("GPU pairs: of the first ", ranks, " of ", gpus, " GPUs, one a rank\n");
  if (rows.size() == 1) lines += "links were not measured: one node\n";
  if (rows.size() == 2) lines += "the link has no other to be compared with: two nodes\n";
  if (!folder) lines += "no folder was tried: --dir\n";
  return lines;
}

std::string page(const std::vector<NodeRow>& rows, bool folder, const std::vector<std::vector<std::string>>& faults) {
  std::string lines = nodes_table(rows) + "\n" + not_tried(rows, folder);
  std::size_t bad = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    bad += !faults[i].empty();
    for (const std::string& fault : faults[i]) lines += text("bad node ", rows[i].host, ": ", fault, "\n");
  }
  return lines +
         text(rows.size() - bad, " of ", rows.size(), rows.size() == 1 ? " node is good\n" : " nodes are good\n");
}

std::string page_json(const std::vector<NodeRow>& rows, const std::vector<std::vector<std::string>>& faults) {
  boost::json::array nodes, bad;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    boost::json::object node = row_json(rows[i]);
    node["faults"] = boost::json::array(faults[i].begin(), faults[i].end());
    nodes.push_back(std::move(node));
    if (!faults[i].empty()) bad.emplace_back(rows[i].host);
  }
  return boost::json::serialize(boost::json::object{{"nodes", nodes}, {"bad", bad}}) + "\n";
}

}  // namespace

const Syntax& check_syntax() {
  static const Syntax syntax{
      .usage = "srun --mpi=pmix lorashard check [--dir <shared folder>] [--json]      (or mpirun)",
      .about =
          "Compares the nodes of a job: GPUs, links between neighbouring nodes, clocks, memory, a shared folder.\n"
          "Start a rank for each GPU of every node. Exit code 0, or 5 when a node is not as the others are.",
      .options = {{"dir", "folder", "that every node should see; two small files are made there, and removed"},
                  {"json", "", "print one JSON object"}}};
  return syntax;
}

int check(dist::Runtime& runtime, int argc, char** argv) {
  const Arguments arguments(check_syntax(), argc, argv);
  const std::string folder = arguments.value("dir");
  const std::vector<NodeRow> rows = measure_nodes(runtime, folder);
  if (runtime.rank() != 0) return 0;  // of the first alone: a launcher that sees another fail first would kill it
  const auto faults = judge(rows);
  std::fputs((arguments.has("json") ? page_json(rows, faults) : page(rows, !folder.empty(), faults)).c_str(), stdout);
  const bool bad = std::any_of(faults.begin(), faults.end(), [](const auto& of_node) { return !of_node.empty(); });
  return bad ? static_cast<int>(kernels::Failure::communication) : 0;
}

}  // namespace lorashard::launch
