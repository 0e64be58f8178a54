#include "launch/against_plan.hpp"

#include <algorithm>

#include "launch/units.hpp"

namespace lorashard::launch {

using boost::json::array;
using boost::json::object;
using core::Part;
using kernels::kActivationKindCount;
using kernels::kCategoryCount;
using kernels::Phase;
using kernels::text;

namespace {

// One line of the time table: the plan's parts and the run's phases that are the same work.
struct Share {
  const char* name;
  std::vector<Part> parts;
  std::vector<Phase> phases;
};
const std::vector<Share>& shares() {
  static const std::vector<Share> all{{"products with the base", {Part::products}, {Phase::matmul}},
                                      {"products of adapters", {Part::adapters}, {Phase::adapter}},
                                      {"attention", {Part::attention}, {Phase::attention}},
                                      {"other kernels", {Part::kernels}, {Phase::elementwise, Phase::loss}},
                                      {"optimizer", {Part::optimizer}, {Phase::optimizer}},
                                      {"tensor traffic", {Part::tensor}, {Phase::tensor}},
                                      {"pipeline traffic and bubble", {Part::pipeline}, {Phase::pipeline}},
                                      {"data traffic", {Part::data}, {Phase::data}}};
  return all;
}

object row(const std::string& name, double planned, double observed) {
  return {{"name", name}, {"planned", planned}, {"observed", observed}};
}

array time_rows(const core::StepTime& planned, const RunFigures& run, double steps) {
  array rows;
  double observed_s = 0;
  for (const Share& share : shares()) {
    double plan_s = 0, run_s = 0;
    for (const Part part : share.parts) plan_s += planned.parts[static_cast<int>(part)];
    if (share.parts.front() == Part::pipeline) plan_s += planned.message_s + planned.bubble_s;
    for (const Phase phase : share.phases)
      for (const RankFigures& rank : run.ranks)
        run_s += rank.phases[static_cast<int>(phase)].step_seconds / steps / static_cast<double>(run.ranks.size());
    observed_s += run_s;
    if (plan_s > 0 || run_s > 0) rows.push_back(row(share.name, plan_s, run_s));
  }
  rows.push_back(row("input and the host", 0, run.step_s / steps - observed_s));
  return rows;
}

// Most of any rank.
template <class Ranks, class Bytes>
double most(const Ranks& ranks, const Bytes& bytes) {
  double value = 0;
  for (const auto& rank : ranks) value = std::max(value, static_cast<double>(bytes(rank)));
  return value;
}

array memory_rows(const std::vector<core::PlannedRanks>& planned, const RunFigures& run) {
  array rows;
  const auto add = [&](const std::string& name, const auto& of_plan, const auto& of_run) {
    const double plan_bytes = most(planned, of_plan), run_bytes = most(run.ranks, of_run);
    if (plan_bytes > 0 || run_bytes > 0) rows.push_back(row(name, plan_bytes, run_bytes));
  };
  for (int c = 0; c < kCategoryCount; ++c) {
    const auto category = static_cast<kernels::Category>(c);
    add(
        kernels::name(category), [c](const core::PlannedRanks& r) { return r.peak_bytes[c]; },
        [c](const RankFigures& r) { return r.peak_bytes[c]; });
    if (category != kernels::Category::activation) continue;
    for (int k = 0; k < kActivationKindCount; ++k)
      add(
          text("activation, ", kernels::name(static_cast<kernels::ActivationKind>(k))),
          [k](const core::PlannedRanks& r) { return r.activation_bytes[k]; },
          [k](const RankFigures& r) { return r.activation_bytes[k]; });
  }
  return rows;
}

double number(const object& from, const char* key) { return from.at(key).to_number<double>(); }

}  // namespace

object against_plan(const core::PlanRequest& request, const std::optional<core::Hardware>& hardware,
                    const RunFigures& run) {
  core::Plan plan;
  if (hardware)
    plan = core::plan_job(request, *hardware);
  else
    plan.ranks = core::plan_memory(request);
  object figures;
  figures["peak_bytes"] = {
      {"planned", most(plan.ranks, [](const core::PlannedRanks& r) { return r.peak_total_bytes; })},
      {"observed", most(run.ranks, [](const RankFigures& r) { return r.peak_total_bytes; })}};
  figures["memory"] = memory_rows(plan.ranks, run);
  const double steps = static_cast<double>(run.steps - run.first_step);
  if (!hardware || steps <= 0) return figures;
  figures["hardware"] = hardware->name;
  figures["step_s"] = {{"planned", plan.time.step_s}, {"observed", run.step_s / steps}};
  figures["time"] = time_rows(plan.time, run, steps);
  return figures;
}

std::string against_plan_text(const object& figures) {
  std::vector<std::vector<std::string>> table{{"against the plan", "planned", "observed"}};
  const auto add = [&](const std::string& label, const object& pair, const auto& shown) {
    table.push_back({"  " + label, shown(number(pair, "planned")), shown(number(pair, "observed"))});
  };
  const auto rows = [&](const char* key, const char* unit, const auto& shown) {
    for (const boost::json::value& each : figures.at(key).as_array())
      add(text(std::string(each.at("name").as_string()), unit), each.as_object(), shown);
  };
  rows("memory", "", bytes_text);
  add("memory of the fullest rank", figures.at("peak_bytes").as_object(), bytes_text);
  if (figures.contains("time")) {
    const auto ms = [](double seconds) { return fixed_text(1e3 * seconds, 2); };
    rows("time", ", ms", ms);
    add(text("step on ", std::string(figures.at("hardware").as_string()), ", ms"), figures.at("step_s").as_object(),
        ms);
  }
  return table_text(table);
}

}  // namespace lorashard::launch
