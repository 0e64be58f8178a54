#include "core/normalization.hpp"

#include "core/family.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/norm.hpp"

namespace lorashard::core {

Norm::Norm(const Context& context, Parameters& parameters, const std::string& name)
    : context_(context),
      name_(name),
      rms_(family_of(context.shape).rms_norm),
      weight_(parameters.value(name + ".weight")),
      trains_(parameters.trains(name + ".weight")),
      weight_gradient_(parameters.gradient(name + ".weight")) {
  if (rms_) return;
  bias_ = parameters.value(name + ".bias");
  bias_gradient_ = parameters.gradient(name + ".bias");
}

Matrix Norm::own_statistics(const RowPart& part, Tensor* statistics) const {
  if (!statistics) return {};
  *statistics = Tensor(context_.device, ActivationKind::norm, DType::f32, part.buffer, rms_ ? 1 : 2);
  return statistics->view().row_range(0, part.count);
}

Activation Norm::forward(const Activation& x, const Microbatch& microbatch, Tensor* statistics) const {
  const RowPart part = row_part(context_, microbatch.rows());
  Tensor y(context_.device, ActivationKind::norm, context_.activation, part.buffer, x.data.cols());
  if (part.count < part.buffer) {
    kernels::fill(context_.device, y.view().row_range(part.count, part.buffer - part.count), 0);
  }
  const ConstMatrix own = ConstMatrix(x.data).row_range(0, part.count);
  const Matrix own_y = y.view().row_range(0, part.count), kept = own_statistics(part, statistics);
  const float eps = context_.shape.norm_eps;
  if (rms_) {
    kernels::rms_norm(context_.device, kernels::RmsNormForward{own, weight_, eps, own_y, kept});
  } else {
    kernels::layer_norm(context_.device, kernels::LayerNormForward{own, weight_, bias_, eps, own_y, kept});
  }
  context_.look(name_, "", own_y, microbatch, part.first);
  return {std::move(y), x.state};
}

void Norm::backward(const Activation& x, ConstMatrix statistics, const Activation& dy, const Microbatch& microbatch,
                    Matrix dx, bool overwrite) const {
  const Index own = row_part(context_, microbatch.rows()).count;
  const ConstMatrix own_x = ConstMatrix(x.data).row_range(0, own), own_dy = ConstMatrix(dy.data).row_range(0, own);
  statistics = statistics.row_range(0, own);
  dx = dx.row_range(0, own);
  if (rms_) {
    kernels::rms_norm(context_.device, kernels::RmsNormBackward{own_x, statistics, weight_, own_dy, dx, !overwrite,
                                                                weight_gradient_});
  } else {
    kernels::layer_norm(context_.device, kernels::LayerNormBackward{own_x, statistics, weight_, own_dy, dx, !overwrite,
                                                                    weight_gradient_, bias_gradient_});
  }
}

HeadNorm::HeadNorm(const Context& context, Parameters& parameters, const std::string& name)
    : context_(context),
      weight_(parameters.value(name)),
      trains_(parameters.trains(name)),
      weight_gradient_(parameters.gradient(name)) {}

void HeadNorm::forward(ConstMatrix x, Matrix y, Tensor* statistics) const {
  if (statistics) *statistics = Tensor(context_.device, ActivationKind::norm, DType::f32, x.rows, x.cols / weight_.cols);
  kernels::rms_norm(context_.device, kernels::RmsNormForward{x, weight_, context_.shape.norm_eps, y,
                                                             statistics ? statistics->view() : Matrix{}});
}

void HeadNorm::backward(ConstMatrix x, ConstMatrix statistics, Matrix d) const {
  kernels::rms_norm(context_.device, kernels::RmsNormBackward{x, statistics, weight_, d, d, false, weight_gradient_});
}

}  // namespace lorashard::core
