#include "core/normalization.hpp"

#include "kernels/elementwise.hpp"
#include "kernels/norm.hpp"

namespace lorashard::core {

Norm::Norm(const Context& context, Parameters& parameters, const std::string& name)
    : context_(context),
      name_(name),
      weight_(parameters.value(name + ".weight")),
      bias_(parameters.value(name + ".bias")),
      trains_(parameters.trains(name + ".weight")),
      weight_gradient_(parameters.gradient(name + ".weight")),
      bias_gradient_(parameters.gradient(name + ".bias")) {}

Activation Norm::forward(const Activation& x, const Microbatch& microbatch, Tensor* statistics) const {
  const RowPart part = row_part(context_, microbatch.rows());
  Tensor y(context_.device, ActivationKind::norm, context_.activation, part.buffer, x.data.cols());
  if (part.count < part.buffer) {
    kernels::fill(context_.device, y.view().row_range(part.count, part.buffer - part.count), 0);
  }
  Matrix own_statistics;
  if (statistics) {
    *statistics = Tensor(context_.device, ActivationKind::norm, DType::f32, part.buffer, 2);
    own_statistics = statistics->view().row_range(0, part.count);
  }
  kernels::layer_norm(context_.device,
                      kernels::LayerNormForward{ConstMatrix(x.data).row_range(0, part.count), weight_, bias_,
                                                context_.shape.norm_eps, y.view().row_range(0, part.count), own_statistics});
  context_.look(name_, "", y.view().row_range(0, part.count), microbatch, part.first);
  return {std::move(y), x.state};
}

void Norm::backward(const Activation& x, ConstMatrix statistics, const Activation& dy, const Microbatch& microbatch,
                    Matrix dx, bool overwrite) const {
  const Index own = row_part(context_, microbatch.rows()).count;
  kernels::layer_norm(context_.device,
                      kernels::LayerNormBackward{ConstMatrix(x.data).row_range(0, own), statistics.row_range(0, own), weight_,
                                                 ConstMatrix(dy.data).row_range(0, own), dx.row_range(0, own), !overwrite,
                                                 weight_gradient_, bias_gradient_});
}

}  // namespace lorashard::core
