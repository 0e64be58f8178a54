#include "launch/plan_page.hpp"

#include <algorithm>

#include "launch/units.hpp"

namespace lorashard::launch {

using core::Part;
using kernels::Category;
using kernels::kCategoryCount;
using kernels::text;

namespace {

using Rows = std::vector<std::vector<std::string>>;

// Rows that are alike but for their first cell, a number, share one: "stages 2-7".
Rows merged(const Rows& rows, const char* one, const char* many) {
  Rows result;
  for (std::size_t first = 0, last; first < rows.size(); first = last + 1) {
    const auto same = [&](std::size_t other) {
      return std::equal(rows[first].begin() + 1, rows[first].end(), rows[other].begin() + 1);
    };
    for (last = first; last + 1 < rows.size() && same(last + 1);) ++last;
    result.push_back(rows[first]);
    result.back()[0] = first == last ? text("  ", one, " ", rows[first][0])
                                     : text("  ", many, " ", rows[first][0], "-", rows[last][0]);
  }
  return result;
}

// The fullest rank of each stage.
std::vector<const core::PlannedRanks*> fullest(const core::Plan& plan) {
  std::vector<const core::PlannedRanks*> of_stage(plan.stages.size());
  for (const core::PlannedRanks& kind : plan.ranks) {
    const core::PlannedRanks*& most = of_stage[kind.stage];
    if (most == nullptr || kind.peak_total_bytes > most->peak_total_bytes) most = &kind;
  }
  return of_stage;
}

std::string memory_page(const core::Hardware& hardware, const core::Plan& plan) {
  Rows rows;
  for (const core::PlannedRanks* kind : fullest(plan)) {
    std::vector<std::string> row{std::to_string(kind->stage)};
    for (int c = 0; c < kCategoryCount; ++c) row.push_back(bytes_text(static_cast<double>(kind->peak_bytes[c])));
    row.push_back(bytes_text(hardware.libraries_bytes));
    row.push_back(bytes_text(static_cast<double>(kind->peak_total_bytes) + hardware.libraries_bytes));
    row.push_back(bytes_text(static_cast<double>(kind->held_total())));
    rows.push_back(row);
  }
  std::vector<std::string> head{"memory a rank, peak"};
  for (int c = 0; c < kCategoryCount; ++c) head.push_back(name(static_cast<Category>(c)));
  for (const char* last : {"libraries", "together", "between steps"}) head.push_back(last);
  Rows table = merged(rows, "stage", "stages");
  table.insert(table.begin(), head);
  return table_text(table);
}

// What the activations are when they are most.
std::string activations_page(const core::Plan& plan) {
  const auto kinds = fullest(plan);
  std::vector<int> shown;
  std::vector<std::string> head{"activations, at their peak"};
  for (int k = 0; k < kernels::kActivationKindCount; ++k) {
    if (std::all_of(kinds.begin(), kinds.end(), [k](auto* kind) { return kind->activation_bytes[k] == 0; })) continue;
    shown.push_back(k);
    head.push_back(name(static_cast<kernels::ActivationKind>(k)));
  }
  Rows rows;
  for (const core::PlannedRanks* kind : kinds) {
    rows.push_back({std::to_string(kind->stage)});
    for (const int k : shown) rows.back().push_back(bytes_text(static_cast<double>(kind->activation_bytes[k])));
  }
  Rows table = merged(rows, "stage", "stages");
  table.insert(table.begin(), head);
  return table_text(table);
}

std::string tera(double flops) { return fixed_text(flops / 1e12, flops < 1e12 ? 6 : flops < 1e14 ? 2 : 0); }

std::string work_page(const core::Plan& plan) {
  Rows rows;
  for (std::size_t stage = 0; stage < plan.stages.size(); ++stage) {
    const core::PlannedStage& s = plan.stages[stage];
    rows.push_back(
        {std::to_string(stage), std::to_string(s.layers), tera(s.flops - s.again_flops), tera(s.again_flops)});
  }
  Rows table = merged(rows, "stage", "stages");
  table.insert(table.begin(), {"work a rank and step", "layers", "TFLOP useful", "TFLOP recomputed"});
  return table_text(table);
}

// Of tensor rank 0, the stage that moves most standing for all.
std::string traffic_page(const core::Plan& plan) {
  core::TrafficTable most;
  for (const core::PlannedStage& stage : plan.stages)
    for (const auto& [key, entry] : stage.traffic)
      if (entry.bytes >= most[key].bytes) most[key] = entry;
  Rows table{{"traffic a rank and step", "ranks", "messages", "bytes"}};
  for (const auto& [key, entry] : most)
    if (entry.size > 1)
      table.push_back({text("  ", key.first, " ", dist::name(key.second)), std::to_string(entry.size),
                       count_text(entry.messages), bytes_text(entry.bytes)});
  return table.size() == 1 ? "" : table_text(table) + "\n";
}

std::string time_page(const core::StepTime& time) {
  const auto row = [&](const std::string& what, double seconds) {
    return std::vector<std::string>{"  " + what, fixed_text(1e3 * seconds, 3),
                                    fixed_text(100 * seconds / time.step_s, 1) + " %"};
  };
  Rows table{{"time of a step, mean of stages", "ms", "share"}};
  const auto part = [&](Part p) { return time.parts[static_cast<int>(p)]; };
  table.push_back(row("products with the base", part(Part::products)));
  table.push_back(row("products of adapters", part(Part::adapters)));
  table.push_back(row("attention", part(Part::attention)));
  table.push_back(row("other kernels", part(Part::kernels)));
  table.push_back(row("optimizer", part(Part::optimizer)));
  table.push_back(row("tensor traffic", part(Part::tensor)));
  table.push_back(row("pipeline traffic", part(Part::pipeline) + time.message_s));
  table.push_back(row("data traffic", part(Part::data)));
  table.push_back(row("pipeline bubble", time.bubble_s));
  table.push_back(row("together", time.step_s));
  table.push_back(row("of it recomputed", time.again_s));
  table.push_back(row("hidden data traffic", time.hidden_s));
  return table_text(table);
}

double peak_flops(const Job& job, const core::Hardware& hardware) {
  if (job.config.train.precision == kernels::DType::bf16) return hardware.bf16_flops;
  return job.config.device.tf32 && hardware.tf32_flops > 0 ? hardware.tf32_flops : hardware.f32_flops;
}

// On a host device what is loaded is where it stays.
std::string host_memory_lines(const core::Plan& plan) {
  const auto line = [&](core::Index core::PlannedRanks::*bytes, double of_node, const char* what) {
    core::Index most = 0;
    for (const core::PlannedRanks& kind : plan.ranks) most = std::max(most, kind.*bytes);
    if (most == 0) return std::string();
    return text("host memory ", bytes_text(static_cast<double>(most)), what, bytes_text(of_node), " a node\n");
  };
  return line(&core::PlannedRanks::host_copy_bytes, plan.host_copy_bytes,
              " a rank while loading, for one tensor at a time; ") +
         line(&core::PlannedRanks::saved_copy_bytes, plan.saved_copy_bytes,
              " at most a rank while a checkpoint is written, for the copy of the state; ");
}

std::string speed_page(const Job& job, const core::Hardware& hardware, const core::Plan& plan) {
  const int ranks = job.extents.ranks();
  const double model = plan.model_flops / plan.time.step_s / ranks,
               used = plan.hardware_flops / plan.time.step_s / ranks;
  const double hours = gpu_hours(job, plan), days = hours / 24 / ranks;
  return text("speed       ", count_text(static_cast<core::Index>(plan.tokens_per_s())), " tokens/s, ",
              fixed_text(plan.tokens_per_s() / ranks, 1), " a rank; ", fixed_text(model / 1e12, 1),
              " TFLOP/s a rank of the model's work (", fixed_text(100 * model / peak_flops(job, hardware), 1),
              " % of peak), ", fixed_text(used / 1e12, 1), " with what is recomputed\n", "job         ",
              count_text(job.config.train.steps), " steps of ", count_text(plan.tokens),
              " tokens: ", fixed_text(hours, hours < 10 ? 2 : 0), " rank-hours, ", fixed_text(days, days < 10 ? 2 : 0),
              " days on ", ranks, " ranks\n", "checkpoint  ", bytes_text(plan.checkpoint_bytes),
              "; gradients summed a step: ", bytes_text(static_cast<double>(plan.reduced_bytes)), " a rank\n",
              "loading     ", bytes_text(plan.load_bytes), " of the base by the fullest node, ",
              duration_text(plan.load_bytes / hardware.storage_bytes_per_s), " at ",
              bytes_text(hardware.storage_bytes_per_s), "/s\n", host_memory_lines(plan));
}

}  // namespace

double gpu_hours(const Job& job, const core::Plan& plan) {
  return plan.time.step_s * static_cast<double>(job.config.train.steps) * job.extents.ranks() / 3600;
}

std::string plan_text(const Job& job, const core::Hardware& hardware, const core::Plan& plan) {
  return text("hardware ", hardware.name, " (", hardware.path, "), ", bytes_text(hardware.memory_bytes), " a rank, ",
              hardware.cards_per_node, " ranks a node\n\n", memory_page(hardware, plan), "\n", activations_page(plan), "\n",
              work_page(plan), "\n",
              traffic_page(plan), time_page(plan.time), "\n", speed_page(job, hardware, plan));
}

std::string verdict_text(const core::Hardware& hardware, const core::Plan& plan) {
  const double spare = plan.memory_bytes - plan.peak_bytes_per_rank;
  const std::string need = text(bytes_text(plan.peak_bytes_per_rank), " of ", bytes_text(plan.memory_bytes));
  if (plan.fits())
    return text("fits        ", need, " a rank of ", hardware.name, ", ", bytes_text(spare), " to spare\n");
  const auto kinds = fullest(plan);
  const core::PlannedRanks& worst = **std::max_element(
      kinds.begin(), kinds.end(), [](auto* a, auto* b) { return a->peak_total_bytes < b->peak_total_bytes; });
  std::vector<int> order;
  for (int c = 0; c < kCategoryCount; ++c) order.push_back(c);
  std::sort(order.begin(), order.end(), [&](int a, int b) { return worst.peak_bytes[a] > worst.peak_bytes[b]; });
  return text("does not fit: stage ", worst.stage, " needs ", need, " a rank of ", hardware.name, ", ",
              bytes_text(-spare), " too much; in the way: ", name(static_cast<Category>(order[0])), " ",
              bytes_text(static_cast<double>(worst.peak_bytes[order[0]])), ", ", name(static_cast<Category>(order[1])),
              " ", bytes_text(static_cast<double>(worst.peak_bytes[order[1]])), "\n");
}

}  // namespace lorashard::launch
