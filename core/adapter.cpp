#include "core/adapter.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "core/adapter_file.hpp"
#include "core/checkpoint.hpp"
#include "core/option_values.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;

using Table = std::vector<TensorInfo>;

// From the tensors of one layer: all are alike.
void set_place(AdapterSpec& spec, const Family& family, const Table& layer) {
  spec.place = place_of(family, spec.target);
  const TensorInfo& weight = find(layer, text("layers.0.", spec.place.linear, ".weight"));
  spec.in = weight.cols;
  spec.out = spec.place.segment < 0 ? weight.rows : weight.segments[spec.place.segment].extent;
}

std::vector<Index> layers_of(const Config& config) {
  std::vector<Index> layers = config.adapter.layers;
  if (layers.empty()) {
    for (Index l = 0; l < config.model.shape.layers; ++l) layers.push_back(l);
  }
  return layers;
}

double alpha_of(const AdapterConfig& adapter, Target target) {
  const auto found = adapter.alpha_of.find(target);
  return found == adapter.alpha_of.end() ? adapter.alpha : found->second;
}

Index rank_of(const AdapterConfig& adapter, Target target) {
  const auto found = adapter.rank_of.find(target);
  return found == adapter.rank_of.end() ? adapter.rank : found->second;
}

// The linear layers of a block that train themselves. One stored matrix does so as a whole.
std::vector<std::string> full_linears(const AdapterConfig& adapter, const Family& family, const Table& layer_0) {
  std::map<std::string, std::vector<Target>> parts;
  std::vector<std::string> linears;
  for (Target target : adapter.targets) {
    if (rank_of(adapter, target) != kFullRank) continue;
    const TargetPlace place = place_of(family, target);
    std::vector<Target>& have = parts[place.linear];
    have.push_back(target);
    const std::size_t all = find(layer_0, text("layers.0.", place.linear, ".weight")).segments.size();
    if (place.segment < 0 || have.size() == all) linears.push_back(place.linear);
  }
  for (const auto& [linear, have] : parts) {
    if (std::find(linears.begin(), linears.end(), linear) != linears.end()) continue;
    fail(Failure::configuration, text("adapter.rank: found full for ", text_of(have),
                                      ", expected it for all parts of ", linear, ", which is one stored matrix"));
  }
  return linears;
}

TrainingPlan plan_of_targets(const Config& config) {
  TrainingPlan plan;
  const Table layer_0 = tensor_table(config.model.shape, 0, 1);
  const Family& family = family_of(config.model.shape);
  const std::vector<std::string> full = full_linears(config.adapter, family, layer_0);
  for (Index layer : layers_of(config)) {
    for (const std::string& linear : full) plan.dense.push_back(text("layers.", layer, ".", linear, ".weight"));
    for (Target target : config.adapter.targets) {
      const Index rank = rank_of(config.adapter, target);
      if (rank == kFullRank) continue;
      AdapterSpec spec{layer, target, rank, alpha_of(config.adapter, target)};
      set_place(spec, family, layer_0);
      plan.adapters.push_back(spec);
    }
  }
  return plan;
}

TrainingPlan plan_of_foreign(const Config& config) {
  TrainingPlan plan;
  const Family& family = family_of(config.model.shape);
  for (const AdapterPair& pair : read_adapter(config.adapter.init, config.model.shape)) {
    const double alpha = pair.alpha != 0 ? pair.alpha : alpha_of(config.adapter, pair.target);
    plan.adapters.push_back({pair.layer, pair.target, pair.rank, alpha, pair.in, pair.out, place_of(family, pair.target)});
  }
  return plan;
}

// A checkpoint names its pairs and carries each alpha as a value of its own.
TrainingPlan plan_of_checkpoint(const Config& config) {
  const CheckpointReader reader(config.adapter.init);
  const Table layer_0 = tensor_table(config.model.shape, 0, 1);
  const Family& family = family_of(config.model.shape);
  std::vector<Target> targets = family.targets;
  targets.insert(targets.end(), family.further_targets.begin(), family.further_targets.end());
  TrainingPlan plan;
  for (Index layer = 0; layer < config.model.shape.layers; ++layer) {
    for (const Target target : targets) {
      AdapterSpec spec{layer, target, 0, 0};
      set_place(spec, family, layer_0);
      if (!reader.has(spec.a_name())) continue;
      for (const CheckpointEntry& entry : reader.entries()) {
        if (entry.name == spec.a_name()) spec.rank = entry.rows;
      }
      float alpha = 0;
      reader.read(spec.alpha_name(), dist::AxisCut::whole(1), dist::AxisCut::whole(1), kernels::view(&alpha, 1, 1));
      spec.alpha = alpha;
      plan.adapters.push_back(spec);
    }
  }
  if (plan.adapters.empty()) {
    fail(Failure::configuration, text(config.adapter.init, ": found no adapter of this model, expected at least one"));
  }
  return plan;
}

}  // namespace

std::string AdapterSpec::linear() const { return text("layers.", layer, ".", place.linear); }

std::string AdapterSpec::name() const { return place.segment < 0 ? linear() : text(linear(), ".", core::name(target)); }

bool TrainingPlan::trains(const std::string& tensor) const {
  return everything || std::find(dense.begin(), dense.end(), tensor) != dense.end();
}

TrainingPlan make_plan(const Config& config) {
  TrainingPlan plan;
  if (config.adapter.method == Method::full) {
    plan.everything = true;
    for (const TensorInfo& info : tensor_table(config.model.shape)) plan.dense.push_back(info.name);
    return plan;
  }
  if (config.adapter.init.empty()) {
    plan = plan_of_targets(config);
  } else if (is_foreign_adapter(config.adapter.init)) {
    plan = plan_of_foreign(config);
  } else {
    plan = plan_of_checkpoint(config);
  }
  std::stable_sort(plan.adapters.begin(), plan.adapters.end(), [](const AdapterSpec& a, const AdapterSpec& b) {
    return std::pair(a.layer, a.target) < std::pair(b.layer, b.target);
  });
  const std::vector<std::string> chosen = std::exchange(plan.dense, {});
  if (chosen.empty()) return plan;
  for (const TensorInfo& info : tensor_table(config.model.shape)) {
    if (std::find(chosen.begin(), chosen.end(), info.name) != chosen.end()) plan.dense.push_back(info.name);
  }
  return plan;
}

void expect_adapters_alone(const std::string& path) {
  if (is_foreign_adapter(path)) return;
  const CheckpointReader reader(path);
  for (const CheckpointEntry& entry : reader.entries()) {
    const bool known = entry.name.ends_with(".lora_a") || entry.name.ends_with(".lora_b") ||
                       entry.name.ends_with(".alpha") || entry.name.ends_with("_moment");
    if (!known)
      fail(Failure::configuration, text(path, ": found ", entry.name, ", which trained itself, expected adapters alone"));
  }
}

Index trained_parameters(const TrainingPlan& plan, const ModelShape& shape) {
  if (plan.everything) return parameter_count(shape);
  Index count = 0;
  for (const AdapterSpec& spec : plan.adapters) count += spec.rank * (spec.in + spec.out);
  const auto table = tensor_table(shape);
  for (const std::string& tensor : plan.dense) {
    const TensorInfo& info = find(table, tensor);
    count += info.rows * info.cols;
  }
  return count;
}

}  // namespace lorashard::core
