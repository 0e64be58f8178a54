#include "launch/check_rows.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

#include "kernels/error.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using kernels::text;

namespace {

constexpr double kLeastShare = 0.5;  // of the median
constexpr double kMostSkew_ms = 100;

using Rows = std::vector<NodeRow>;
using Faults = std::vector<std::vector<std::string>>;

// Of values that are as frequent, the one that is better by `better`; without it the first in the table.
template <class Value>
Value most_common(const std::vector<Value>& values,
                  const std::function<bool(const Value&, const Value&)>& better = {}) {
  Value best{};
  std::ptrdiff_t most = 0;
  for (const Value& value : values) {
    const std::ptrdiff_t count = std::count(values.begin(), values.end(), value);
    if (count > most || (count == most && better && better(value, best))) most = count, best = value;
  }
  return best;
}

std::string rate_text(double bytes_per_s) {
  return text(fixed_text(bytes_per_s / 1e9, bytes_per_s < 1e10 ? 3 : 1), " GB/s");
}

std::string or_none(const std::string& value) { return value.empty() ? "none" : value; }

void judge_gpus(const Rows& rows, Faults& faults) {
  std::vector<int> counts;
  for (const NodeRow& row : rows) counts.push_back(row.gpus);
  const int most = most_common<int>(counts, std::greater<>());
  const auto compare = [&](const char* what, std::string NodeRow::*field) {
    std::vector<std::string> values;
    for (const NodeRow& row : rows) values.push_back(row.*field);
    const std::string expected = most_common(values);
    for (std::size_t i = 0; i < rows.size(); ++i)
      if (!expected.empty() && values[i] != expected)
        faults[i].push_back(text(what, ": found ", or_none(values[i]), ", expected ", expected, " as on most nodes"));
  };
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (rows[i].gpus < most)
      faults[i].push_back(text("GPUs: found ", rows[i].gpus, ", expected ", most, " as on most nodes"));
  compare("card", &NodeRow::card);
  compare("driver", &NodeRow::driver);

  std::vector<double> rates;
  for (const NodeRow& row : rows)
    if (row.pair_bytes_per_s > 0) rates.push_back(row.pair_bytes_per_s);
  const double least = kLeastShare * median(rates);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!rows[i].gpu_fault.empty()) faults[i].push_back(text("GPUs: ", rows[i].gpu_fault));
    if (rows[i].pair_bytes_per_s > 0 && rows[i].pair_bytes_per_s < least)
      faults[i].push_back(text("GPU pairs: found ", rate_text(rows[i].pair_bytes_per_s), ", expected at least ",
                               rate_text(least), ", half of the median"));
  }
}

void judge_links(const Rows& rows, Faults& faults) {
  const std::size_t nodes = rows.size();
  if (nodes < 3) return;
  std::vector<double> links, better_ones;
  for (const NodeRow& row : rows) links.push_back(row.link_bytes_per_s);
  for (std::size_t i = 0; i < nodes; ++i) better_ones.push_back(std::max(links[i], links[(i + nodes - 1) % nodes]));
  const double least = kLeastShare * median(better_ones);
  const auto slow = [&](std::size_t link) { return links[link] < least; };
  const auto bad = [&](std::size_t node) { return slow(node) && slow((node + nodes - 1) % nodes); };
  for (std::size_t i = 0; i < nodes; ++i) {
    const std::size_t next = (i + 1) % nodes, before = (i + nodes - 1) % nodes;
    if (bad(i))
      faults[i].push_back(text("link: found ", rate_text(links[i]), " to ", rows[next].host, " and ",
                               rate_text(links[before]), " from ", rows[before].host, ", expected at least ",
                               rate_text(least), ", half of the median"));
    else if (slow(i) && !bad(next))
      faults[i].push_back(text("link: found ", rate_text(links[i]), " to ", rows[next].host, ", expected at least ",
                               rate_text(least), ", half of the median: this node, that one, or what is between them"));
  }
}

void judge_clocks(const Rows& rows, Faults& faults) {
  std::vector<double> skews;
  for (const NodeRow& row : rows) skews.push_back(row.skew_ms);
  const auto near_first =
      std::count_if(skews.begin(), skews.end(), [](double s) { return std::abs(s) <= kMostSkew_ms; });
  const bool first_is_right = 2 * near_first >= static_cast<std::ptrdiff_t>(rows.size());
  const double right = first_is_right ? 0 : median(skews);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double skew = skews[i] - right;
    if (std::abs(skew) > kMostSkew_ms)
      faults[i].push_back(text("clock: found ", fixed_text(std::abs(skew), 0), " ms ",
                               skew > 0 ? "ahead of " : "behind ", first_is_right ? rows[0].host : "the median",
                               ", expected at most ", fixed_text(kMostSkew_ms, 0)));
  }
}

void judge_memory_and_folder(const Rows& rows, Faults& faults) {
  std::vector<double> memory;
  for (const NodeRow& row : rows) memory.push_back(row.free_memory_bytes);
  const double least = kLeastShare * median(memory);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (memory[i] < least)
      faults[i].push_back(text("memory: found ", bytes_text(memory[i]), " free, expected at least ", bytes_text(least),
                               ", half of the median"));
    if (!rows[i].folder.empty() && rows[i].folder != "yes") faults[i].push_back(text("folder: ", rows[i].folder));
  }
}

}  // namespace

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::vector<std::vector<std::string>> judge(const std::vector<NodeRow>& rows) {
  Faults faults(rows.size());
  if (rows.empty()) return faults;
  judge_gpus(rows, faults);
  judge_links(rows, faults);
  judge_clocks(rows, faults);
  judge_memory_and_folder(rows, faults);
  return faults;
}

boost::json::object row_json(const NodeRow& row) {
  return {{"host", row.host},           {"ranks", row.ranks},
          {"cores", row.cores},         {"gpus", row.gpus},
          {"card", row.card},           {"driver", row.driver},
          {"gpu_fault", row.gpu_fault}, {"pair_bytes_per_s", row.pair_bytes_per_s},
          {"latency_s", row.latency_s}, {"link_bytes_per_s", row.link_bytes_per_s},
          {"skew_ms", row.skew_ms},     {"free_memory_bytes", row.free_memory_bytes},
          {"folder", row.folder}};
}

NodeRow row_from(const boost::json::object& json) {
  const auto words = [&](const char* key) { return std::string(json.at(key).as_string()); };
  const auto whole = [&](const char* key) { return json.at(key).to_number<int>(); };
  const auto real = [&](const char* key) { return json.at(key).to_number<double>(); };
  NodeRow row;
  row.host = words("host");
  row.ranks = whole("ranks");
  row.cores = whole("cores");
  row.gpus = whole("gpus");
  row.card = words("card");
  row.driver = words("driver");
  row.gpu_fault = words("gpu_fault");
  row.pair_bytes_per_s = real("pair_bytes_per_s");
  row.latency_s = real("latency_s");
  row.link_bytes_per_s = real("link_bytes_per_s");
  row.skew_ms = real("skew_ms");
  row.free_memory_bytes = real("free_memory_bytes");
  row.folder = words("folder");
  return row;
}

}  // namespace lorashard::launch
