#include "launch/summary.hpp"

#include <cmath>
#include <cstring>

#include "core/tensor_table.hpp"
#include "launch/against_plan.hpp"
#include "launch/machine.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using kernels::Category;
using kernels::kCategoryCount;
using kernels::kPhaseCount;
using kernels::Phase;
using kernels::text;

static_assert(sizeof(RankFigures) ==
                  (5 * kPhaseCount + kCategoryCount + kernels::kActivationKindCount + 3) * sizeof(double),
              "only doubles, to be gathered");

PhaseSeconds seconds_of(kernels::Device& device) {
  device.synchronize();
  device.profile().enter(device.profile().enter(Phase::other));  // brings the account up to now
  PhaseSeconds seconds;
  for (int p = 0; p < kPhaseCount; ++p) seconds[p] = device.profile().entry(static_cast<Phase>(p)).seconds;
  return seconds;
}

RankFigures figures_of(kernels::Device& device, kernels::Index reduced_bytes, const PhaseSeconds& outside) {
  RankFigures figures;
  for (int p = 0; p < kPhaseCount; ++p) {
    const kernels::Profile::Entry& entry = device.profile().entry(static_cast<Phase>(p));
    figures.phases[p] = {entry.seconds, entry.seconds - outside[p], entry.flops, entry.bytes, entry.sent_bytes};
  }
  for (int c = 0; c < kCategoryCount; ++c)
    figures.peak_bytes[c] = static_cast<double>(device.ledger().peak_bytes(static_cast<Category>(c)));
  for (int k = 0; k < kernels::kActivationKindCount; ++k)
    figures.activation_bytes[k] =
        static_cast<double>(device.ledger().peak_bytes(static_cast<kernels::ActivationKind>(k)));
  figures.peak_total_bytes = static_cast<double>(device.ledger().peak_bytes());
  figures.peak_resident_bytes = static_cast<double>(peak_resident_bytes());
  figures.reduced_bytes = static_cast<double>(reduced_bytes);
  return figures;
}

std::vector<RankFigures> gather_figures(dist::Communicator& world, const RankFigures& mine) {
  std::array<double, sizeof(RankFigures) / sizeof(double)> values;
  std::memcpy(values.data(), &mine, sizeof mine);
  const std::vector<double> all = world.gather_values(values);
  std::vector<RankFigures> ranks(all.size() / values.size());
  std::memcpy(static_cast<void*>(ranks.data()), all.data(), ranks.size() * sizeof(RankFigures));
  return ranks;
}

std::string rank_table(std::vector<std::string> head, const std::vector<std::vector<std::string>>& cells_of_rank) {
  constexpr std::size_t kMostRows = 24;
  std::vector<std::vector<std::string>> rows{std::move(head)};
  for (std::size_t first = 0, last; first < cells_of_rank.size(); first = last + 1) {
    for (last = first; last + 1 < cells_of_rank.size() && cells_of_rank[last + 1] == cells_of_rank[first];) ++last;
    if (rows.size() > kMostRows)
      return table_text(rows) + text("  and ", cells_of_rank.size() - first, " more ranks\n");
    rows.push_back({first == last ? text("  rank ", first) : text("  ranks ", first, "-", last)});
    rows.back().insert(rows.back().end(), cells_of_rank[first].begin(), cells_of_rank[first].end());
  }
  return table_text(rows);
}

std::string memory_table(const std::vector<RankFigures>& ranks) {
  const bool ran = ranks[0].peak_resident_bytes > 0;  // on meta there is no process to speak of
  std::vector<std::string> head{"memory, peak"};
  for (int c = 0; c < kCategoryCount; ++c) head.emplace_back(name(static_cast<Category>(c)));
  head.emplace_back("together");
  if (ran) head.emplace_back("process");
  std::vector<std::vector<std::string>> cells;
  for (const RankFigures& rank : ranks) {
    cells.emplace_back();
    for (const double bytes : rank.peak_bytes) cells.back().push_back(bytes_text(bytes));
    cells.back().push_back(bytes_text(rank.peak_total_bytes));
    if (ran) cells.back().push_back(bytes_text(rank.peak_resident_bytes));
  }
  return rank_table(std::move(head), cells);
}

namespace {

RankFigures mean_of(const std::vector<RankFigures>& ranks) {
  RankFigures mean{};
  for (const RankFigures& rank : ranks)
    for (int p = 0; p < kPhaseCount; ++p) {
      mean.phases[p].seconds += rank.phases[p].seconds / static_cast<double>(ranks.size());
      mean.phases[p].flops += rank.phases[p].flops / static_cast<double>(ranks.size());
      mean.phases[p].sent_bytes += rank.phases[p].sent_bytes / static_cast<double>(ranks.size());
    }
  return mean;
}

double tokens_per_s(const RunFigures& run) { return run.step_s > 0 ? static_cast<double>(run.tokens) / run.step_s : 0; }

}  // namespace

std::string speed_text(const RunFigures& run) {
  const RankFigures mean = mean_of(run.ranks);
  double total_s = 0;
  for (const auto& phase : mean.phases) total_s += phase.seconds;
  std::vector<std::vector<std::string>> rows{{"time, mean of ranks", "s", "share", "GFLOP/s", "sent a rank"}};
  for (int p = 0; p < kPhaseCount; ++p) {
    const auto& phase = mean.phases[p];
    if (phase.seconds < 0.0005 * total_s && phase.sent_bytes == 0) continue;
    rows.push_back({text("  ", name(static_cast<Phase>(p))), fixed_text(phase.seconds, 2),
                    fixed_text(100 * phase.seconds / total_s, 1) + " %",
                    phase.flops > 0 && phase.seconds > 0 ? fixed_text(phase.flops / phase.seconds / 1e9, 1) : "",
                    phase.sent_bytes > 0 ? bytes_text(phase.sent_bytes) : ""});
  }
  std::string lines = "\n" + table_text(rows) + "\n" + memory_table(run.ranks) + "\n";
  lines += text("speed       ", count_text(std::llround(tokens_per_s(run))), " tokens/s over ",
                run.steps - run.first_step, " steps\n");
  lines += text("reduction   ", bytes_text(run.ranks[0].reduced_bytes), " of gradients a step on rank 0\n");
  if (run.ceiling_share > 0)
    lines += text("ceiling     products at ", fixed_text(run.ceiling_share, 2), " of what ", run.library, " alone reaches here\n");
  return lines;
}

std::string summary_text(const RunFigures& run) {
  std::string lines = speed_text(run);
  if (!run.against_plan.empty()) lines += "\n" + against_plan_text(run.against_plan) + "\n";
  for (std::size_t i = 0; i < run.after.size(); ++i) {
    const double after = run.after[i].loss;
    lines += text("held out    ", run.after[i].name, ": loss ",
                  i < run.before.size() ? fixed_text(run.before[i].loss, 4) + " before, " : "", fixed_text(after, 4),
                  " after (perplexity ", fixed_text(std::exp(after), 2), ")\n");
  }
  if (run.saved_beside > 0)
    lines += text("saving      ", run.saved_beside, run.saved_beside == 1 ? " checkpoint" : " checkpoints",
                  " beside the steps, which waited ", fixed_text(run.longest_pause_s, 2), " s at most; on the disk after ",
                  fixed_text(run.longest_save_s, 1), " s at most\n");
  return lines + text("result      ", run.result, "; checkpoint of ",
                      bytes_text(static_cast<double>(run.checkpoint_bytes)), "\n");
}

std::string summary_json(const Job& job, const RunFigures& run) {
  boost::json::object root;
  root["method"] = name(job.config.adapter.method);
  root["parameters"] = parameter_count(job.config.model.shape);
  root["trained_parameters"] = run.trained_parameters;
  root["mesh"] = to_string(job.extents);
  root["ranks"] = job.extents.ranks();
  root["device"] = device_text(job);
  root["threads"] = job.threads;
  root["precision"] = name(job.config.train.precision);
  root["steps"] = run.steps;
  root["steps_of_this_session"] = run.steps - run.first_step;
  root["tokens"] = run.tokens;
  root["step_seconds"] = run.step_s;
  root["tokens_per_s"] = tokens_per_s(run);
  root["loss"] = run.loss;
  root["reduced_bytes_per_step"] = static_cast<std::int64_t>(run.ranks[0].reduced_bytes);
  root["checkpoint_bytes"] = run.checkpoint_bytes;
  root["saved_beside"] = run.saved_beside;
  root["longest_pause_s"] = run.longest_pause_s;
  root["longest_save_s"] = run.longest_save_s;
  if (run.ceiling_share > 0) root["ceiling_share"] = run.ceiling_share;
  if (!run.against_plan.empty()) root["against_plan"] = run.against_plan;
  root["result"] = run.result;
  boost::json::array valid;
  for (std::size_t i = 0; i < run.after.size(); ++i) {
    boost::json::object set{{"file", run.after[i].name}, {"after", run.after[i].loss}};
    if (i < run.before.size()) set["before"] = run.before[i].loss;
    valid.push_back(set);
  }
  root["valid"] = valid;
  boost::json::array ranks;
  for (const RankFigures& rank : run.ranks) {
    boost::json::object memory, activations, seconds, sent;
    for (int c = 0; c < kCategoryCount; ++c)
      memory[name(static_cast<Category>(c))] = static_cast<std::int64_t>(rank.peak_bytes[c]);
    for (int k = 0; k < kernels::kActivationKindCount; ++k)
      if (rank.activation_bytes[k] > 0)
        activations[name(static_cast<kernels::ActivationKind>(k))] =
            static_cast<std::int64_t>(rank.activation_bytes[k]);
    for (int p = 0; p < kPhaseCount; ++p) {
      seconds[name(static_cast<Phase>(p))] = rank.phases[p].seconds;
      sent[name(static_cast<Phase>(p))] = rank.phases[p].sent_bytes;
    }
    ranks.push_back({{"memory", memory},
                     {"activation_parts", activations},
                     {"peak_bytes", static_cast<std::int64_t>(rank.peak_total_bytes)},
                     {"resident_bytes", static_cast<std::int64_t>(rank.peak_resident_bytes)},
                     {"seconds", seconds},
                     {"sent_bytes", sent}});
  }
  root["per_rank"] = ranks;
  return boost::json::serialize(root) + "\n";
}

}  // namespace lorashard::launch
