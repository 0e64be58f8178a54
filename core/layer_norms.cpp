#include "core/layer_norms.hpp"

#include <cmath>
#include <cstring>
#include <map>

#include "kernels/adamw.hpp"
#include "kernels/elementwise.hpp"

namespace lorashard::core {
namespace {

// By layer, whether it has adapters.
std::map<Index, bool> trained_layers(const TrainingPlan& plan, const ModelShape& shape) {
  std::map<Index, bool> layers;
  for (const AdapterSpec& spec : plan.adapters) layers[spec.layer] = true;
  if (plan.dense.empty()) return layers;
  for (const TensorInfo& info : tensor_table(shape))
    if (info.layer >= 0 && plan.trains(info.name)) layers.try_emplace(info.layer, false);
  return layers;
}

}  // namespace

LayerNormMeter::LayerNormMeter(const Context& context, const TrainingPlan& plan, Index every)
    : context_(context), every_(every) {
  if (every == 0) return;
  for (const auto& [layer, adapted] : trained_layers(plan, context.shape)) layers_.push_back({layer, adapted});
  squares_ = Tensor(context.device, Category::workspace, DType::f64, context.shape.layers, columns);
  for (auto& readback : readbacks_) readback = context.device.make_readback(squares_.view().bytes());
}

void LayerNormMeter::measure(Parameters& parameters, Index step) {
  kernels::Device& device = context_.device;
  kernels::fill(device, squares_, 0);
  const auto add = [&](Index layer, Column column, ConstMatrix values) {
    kernels::add_sum_of_squares(device, values, squares_.view().row_range(layer, 1).col_range(column, 1));
  };
  const dist::MeshPoint& point = context_.mesh.point();
  if (point.tensor == 0 && point.data == 0) {  // the others hold the same
    ReplicatedGroup& group = parameters.replicated();
    for (const AdapterSpec& spec : parameters.adapters()) {
      add(spec.layer, of_a, group.value(parameters.adapter_a(spec)));
      add(spec.layer, of_b, group.value(parameters.adapter_b(spec)));
    }
    for (std::size_t i = 0; i < group.entries().size(); ++i)
      if (const Index layer = group.entries()[i].layer; layer >= 0)
        add(layer, of_gradient, group.gradient(static_cast<int>(i)));
  }
  for (DenseParameter& p : parameters.dense())
    for (const Matrix& part : p.owned_gradients())
      if (p.info().layer >= 0) add(p.info().layer, of_gradient, part);
  readback(step).start(squares_);
}

std::vector<LayerNorms> LayerNormMeter::read(Index step) {
  const std::span<const std::byte> bytes = readback(step).wait();
  std::vector<double> own(static_cast<std::size_t>(squares_.count()));
  std::memcpy(own.data(), bytes.data(), bytes.size());
  const std::vector<double> all = context_.mesh.world().gather_values(own);
  const auto norm = [&](Index layer, Column column) {
    double sum = 0;  // in rank order
    for (auto at = static_cast<std::size_t>(layer * columns + column); at < all.size(); at += own.size())
      sum += all[at];
    return std::sqrt(sum);
  };
  std::vector<LayerNorms> norms = layers_;
  for (LayerNorms& each : norms) {
    each.a_norm = norm(each.layer, of_a);
    each.b_norm = norm(each.layer, of_b);
    each.grad_norm = norm(each.layer, of_gradient);
  }
  return norms;
}

}  // namespace lorashard::core
