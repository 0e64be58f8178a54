#include "core/adapter.hpp"

#include <algorithm>
#include <utility>

#include "core/adapter_file.hpp"
#include "core/checkpoint.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;

using Table = std::vector<TensorInfo>;

// From the tensors of one layer: all are alike.
void set_extents(AdapterSpec& spec, const Table& layer) {
  const TargetPlace place = place_of(spec.target);
  const TensorInfo& weight = find(layer, text("layers.0.", place.linear, ".weight"));
  spec.in = weight.cols;
  spec.out = place.segment < 0 ? weight.rows : weight.segments[place.segment];
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

TrainingPlan plan_of_targets(const Config& config) {
  TrainingPlan plan;
  const Table layer_0 = tensor_table(config.model.shape, 0, 1);
  for (Index layer : layers_of(config)) {
    for (Target target : config.adapter.targets) {
      const auto found = config.adapter.rank_of.find(target);
      const Index rank = found == config.adapter.rank_of.end() ? config.adapter.rank : found->second;
      if (rank == kFullRank) {
        const TargetPlace place = place_of(target);
        if (place.segment >= 0) {
          fail(Failure::configuration, text("adapter.rank: found full for ", name(target),
                                            ", expected it for qkv: the three are one stored matrix"));
        }
        plan.dense.push_back(text("layers.", layer, ".", place.linear, ".weight"));
        continue;
      }
      AdapterSpec spec{layer, target, rank, alpha_of(config.adapter, target)};
      set_extents(spec, layer_0);
      plan.adapters.push_back(spec);
    }
  }
  return plan;
}

TrainingPlan plan_of_foreign(const Config& config) {
  TrainingPlan plan;
  for (const AdapterPair& pair : read_adapter(config.adapter.init, config.model.shape)) {
    const double alpha = pair.alpha != 0 ? pair.alpha : alpha_of(config.adapter, pair.target);
    plan.adapters.push_back({pair.layer, pair.target, pair.rank, alpha, pair.in, pair.out});
  }
  return plan;
}

// A checkpoint names its pairs and carries each alpha as a value of its own.
TrainingPlan plan_of_checkpoint(const Config& config) {
  const CheckpointReader reader(config.adapter.init);
  const Table layer_0 = tensor_table(config.model.shape, 0, 1);
  TrainingPlan plan;
  for (Index layer = 0; layer < config.model.shape.layers; ++layer) {
    for (int t = 0; t < kTargetCount; ++t) {
      AdapterSpec spec{layer, static_cast<Target>(t), 0, 0};
      if (spec.target == Target::gate || !reader.has(spec.a_name())) continue;
      set_extents(spec, layer_0);
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

TargetPlace place_of(Target target) {
  switch (target) {
    case Target::qkv: return {"attention.qkv", -1};
    case Target::q: return {"attention.qkv", 0};
    case Target::k: return {"attention.qkv", 1};
    case Target::v: return {"attention.qkv", 2};
    case Target::o: return {"attention.o", -1};
    case Target::up: return {"mlp.up", -1};
    case Target::down: return {"mlp.down", -1};
    case Target::gate: break;
  }
  fail(Failure::configuration, text("adapter.targets: found ", name(target), ", which this family does not have"));
}

std::string AdapterSpec::name() const {
  const TargetPlace place = place_of(target);
  const std::string linear = text("layers.", layer, ".", place.linear);
  return place.segment < 0 ? linear : text(linear, ".", core::name(target));
}

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
