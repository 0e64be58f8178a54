#include "launch/parity_page.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "core/digest.hpp"
#include "core/options.hpp"
#include "core/parity_bounds.hpp"
#include "core/tensor_table.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using core::Index;
using core::ParityComparison;
using core::ParityKind;
using kernels::text;

namespace {

constexpr std::size_t kShown = 10;

std::string digest_text(const core::Config& config) {
  const std::string job = core::canonical_text(config);
  return core::digest_of(job.data(), job.size()).hex();
}

std::string small_text(double value) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.2e", value);
  return value == 0 ? "0" : digits;
}

std::string share_text(double share) {
  if (share > 0 && share < 0.001) return "< 0.001";
  return std::isinf(share) ? "-" : share < 100 ? fixed_text(share, 3) : small_text(share);
}

// "2 of 12 layers, width 64 of 768": what ran, of what the job has.
std::string extents_text(const ParityHeader& header) {
  const core::ModelShape &had = header.asked.model.shape, &has = header.run.config.model.shape;
  std::string line;
  const auto add = [&](const char* what, Index now, Index before) {
    line += text(line.empty() ? "" : ", ", what, " ", count_text(now));
    if (now != before) line += text(" of ", count_text(before));
  };
  add("layers", has.layers, had.layers);
  add("width", has.width, had.width);
  add("heads", has.heads, had.heads);
  if (has.kv_heads != has.heads || had.kv_heads != had.heads) add("key/value heads", has.kv_heads, had.kv_heads);
  add("ffn", has.ffn, had.ffn);
  add("vocabulary", has.vocab, had.vocab);
  add("length", header.run.config.data.length, header.asked.data.length);
  add("batch", header.run.config.train.batch, header.asked.train.batch);
  if (header.asked.adapter.method == core::Method::lora && header.asked.adapter.rank != core::kFullRank)
    add("rank", header.run.config.adapter.rank, header.asked.adapter.rank);
  return line;
}

std::string model_text(const ParityHeader& header) {
  const core::ModelConfig& model = header.run.config.model;
  const std::string weights = text(count_text(core::parameter_count(model.shape)), " weights");
  if (header.shrunken)
    return text("a small one of the job's structure, from nothing: ", weights, " for the job's ",
                count_text(core::parameter_count(header.asked.model.shape)));
  return text("the job's own, ", model.base.empty() ? "from nothing" : "from " + model.base, ": ", weights);
}

std::string method_text(const ParityHeader& header, const core::ParityReport& report) {
  const core::AdapterConfig& adapter = header.run.config.adapter;
  std::string line = text(name(adapter.method), ", ", count_text(report.trained_parameters), " values");
  if (!report.perturbed.empty())
    line += text("; the ", report.perturbed.size(),
                 " B that start at zero began at random values, so that A has gradients");
  return line;
}

std::string mesh_text(const ParityHeader& header) {
  const core::Config& config = header.run.config;
  const Index microbatch = microbatch_of(config.train, header.run.extents.data);
  const Index count = config.train.batch / header.run.extents.data / microbatch;
  std::string line = text(to_string(header.run.extents), " (tensor x pipeline x data) against one rank");
  if (config.mesh.sequence_parallel) line += ", sequence parallel";
  if (config.mesh.pipeline > 1) line += text(", ", name(config.mesh.schedule));
  if (config.mesh.chunks > 1) line += text(" of ", config.mesh.chunks, " parts");
  return text(line, ", ", count, count == 1 ? " microbatch" : " microbatches", " of ", microbatch);
}

std::string precision_text(const ParityHeader& header) {
  const core::Config& config = header.run.config;
  const bool tf32 = config.device.kind == kernels::DeviceKind::cuda && config.device.tf32;
  return text(name(config.train.precision), tf32 ? " (products in TF32)" : "");
}

std::string allowed_text(const core::ParityReport& report) {
  std::string line;
  for (std::size_t step = 0; step < report.relative_errors.size(); ++step) {
    const double error = report.relative_errors[step];
    line += text(line.empty() ? "" : "; ", "step ", step, " ", small_text(core::kMeanFactor * error),
                 " of a gradient's mean, ", small_text(core::kElementFactor * error), " of an element");
    if (core::kMeanFactor * error > 0.25) line += " (too much to tell a lost term)";
  }
  return line;
}

std::string header_text(const ParityHeader& header, const core::ParityReport& report) {
  std::string lines = text("lorashard ", LORASHARD_VERSION, " parity, ", header.date, "\n");
  const auto add = [&](const char* label, const std::string& words) {
    std::string left = label;
    left.resize(10, ' ');
    lines += text(left, words, "\n");
  };
  add("job", text("digest ", digest_text(header.asked)));
  add("model", model_text(header));
  add("extents", extents_text(header));
  add("trained", method_text(header, report));
  add("data", header.own_data ? header.run.config.data.train : "random tokens");
  add("mesh", mesh_text(header));
  add("precision", precision_text(header));
  add("device",
      text(device_text(header.run), ", ", header.run.extents.ranks(),
           header.run.extents.ranks() == 1 ? " rank on " : " ranks on ", header.hosts,
           header.hosts == 1 ? " host (" : " hosts (", header.host, header.hosts == 1 ? ")" : " and others)"));
  add("steps", std::to_string(header.steps));
  add("allowed", allowed_text(report));
  return lines;
}

// All that fail, in the order in which they were found; then of what holds the closest to its bound of each kind, and
// the next closest of any kind up to ten.
std::vector<const ParityComparison*> shown(const core::ParityReport& report) {
  std::vector<const ParityComparison*> list, holding, rest;
  for (const ParityComparison& c : report.comparisons) (c.holds() ? holding : list).push_back(&c);
  const auto closer = [](const ParityComparison* a, const ParityComparison* b) { return a->share() > b->share(); };
  std::stable_sort(holding.begin(), holding.end(), closer);
  const std::size_t failing = list.size();
  std::set<ParityKind> kinds;
  for (const ParityComparison* c : holding) (kinds.insert(c->kind).second ? list : rest).push_back(c);
  const std::size_t kept = list.size() - failing, more = kept < kShown ? std::min(rest.size(), kShown - kept) : 0;
  list.insert(list.end(), rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(more));
  std::stable_sort(list.begin() + static_cast<std::ptrdiff_t>(failing), list.end(), closer);
  return list;
}

std::string verdict_of(const ParityComparison& c) {
  if (c.holds()) return "holds";
  if (c.kind == ParityKind::gradient) return text("FAILS, ", fixed_text(c.ratio, 3), " of one rank's");
  return c.note.empty() ? "FAILS" : text("FAILS, ", c.note);
}

std::string table_of(const core::ParityReport& report) {
  std::vector<std::vector<std::string>> rows{
      {"compared", "largest difference", "allowed", "mean", "allowed", "share", "verdict"}};
  for (const ParityComparison* c : shown(report)) {
    const bool has_mean = c->mean_bound > 0;
    rows.push_back({c->what(), small_text(c->difference), small_text(c->bound),
                    has_mean ? small_text(c->mean_difference) : "", has_mean ? small_text(c->mean_bound) : "",
                    share_text(c->share()), verdict_of(*c)});
  }
  return table_text(rows);
}

std::string counts_text(const core::ParityReport& report) {
  std::string line;
  for (const ParityKind kind : {ParityKind::tensors, ParityKind::start, ParityKind::copies, ParityKind::loss,
                                ParityKind::gradient, ParityKind::norm, ParityKind::own_norm, ParityKind::value}) {
    const auto of_kind = [&](const ParityComparison& c) { return c.kind == kind; };
    const auto count = std::count_if(report.comparisons.begin(), report.comparisons.end(), of_kind);
    if (count > 0) line += text(line.empty() ? "" : ", ", count, " ", name(kind));
  }
  return text("compared: ", line, "\n");
}

boost::json::object comparison_json(const ParityComparison& c) {
  boost::json::object object{{"kind", name(c.kind)}, {"step", c.step}, {"holds", c.holds()}};
  const auto add = [&](const char* key, double value) {  // JSON has no word for what is no number
    if (std::isfinite(value)) object[key] = value;
  };
  if (!c.tensor.empty()) object["tensor"] = c.tensor;
  add("difference", c.difference);
  add("bound", c.bound);
  if (c.mean_bound > 0) add("mean_difference", c.mean_difference), add("mean_bound", c.mean_bound);
  add("share", c.share());
  if (!c.holds()) add("ratio", c.ratio);
  if (!c.holds() && !c.note.empty()) object["note"] = c.note;
  return object;
}

}  // namespace

std::string parity_text(const ParityHeader& header, const core::ParityReport& report) {
  return text(header_text(header, report), "\n", table_of(report), "\n", counts_text(report), report.verdict(), "\n");
}

boost::json::object parity_json(const ParityHeader& header, const core::ParityReport& report) {
  const core::ModelShape& shape = header.run.config.model.shape;
  boost::json::array errors(report.relative_errors.begin(), report.relative_errors.end()), comparisons;
  for (const ParityComparison& c : report.comparisons) comparisons.push_back(comparison_json(c));
  return {{"holds", report.holds},
          {"verdict", report.verdict()},
          {"version", LORASHARD_VERSION},
          {"date", header.date},
          {"job_digest", digest_text(header.asked)},
          {"job", core::canonical_text(header.asked)},
          {"run", core::canonical_text(header.run.config)},
          {"shrunken", header.shrunken},
          {"own_data", header.own_data},
          {"layers", shape.layers},
          {"width", shape.width},
          {"mesh", to_string(header.run.extents)},
          {"ranks", header.run.extents.ranks()},
          {"hosts", header.hosts},
          {"host", header.host},
          {"device", device_text(header.run)},
          {"precision", precision_text(header)},
          {"steps", header.steps},
          {"trained_parameters", report.trained_parameters},
          {"perturbed", boost::json::array(report.perturbed.begin(), report.perturbed.end())},
          {"relative_errors", errors},
          {"failures", report.failures()},
          {"comparisons", comparisons}};
}

}  // namespace lorashard::launch
