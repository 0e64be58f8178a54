#include "core/dense.hpp"

#include "kernels/elementwise.hpp"

namespace lorashard::core {

DenseParameter::DenseParameter(const Context& context, const TensorInfo& info, DType compute)
    : info_(info),
      rows_(info.row_cut(context.tensor_rank(), context.tensor_size())),
      cols_(info.col_cut(context.tensor_rank(), context.tensor_size())) {
  kernels::Device& device = context.device;
  const Index parts = context.mesh.extents().data;
  share_ = (count() + parts - 1) / parts;
  share_first_ = share_ * context.mesh.point().data;
  value_ = Tensor(device, Category::base, compute, 1, share_ * parts);
  gradient_ = Tensor(device, Category::gradient, DType::f32, 1, share_ * parts);
  if (parts > 1) reduced_ = Tensor(device, Category::gradient, DType::f32, 1, share_);
  if (compute != DType::f32) master_ = Tensor(device, Category::optimizer, DType::f32, 1, share_);
  first_ = Tensor(device, Category::optimizer, DType::f32, 1, share_);
  second_ = Tensor(device, Category::optimizer, DType::f32, 1, share_);
  for (Tensor* zero : {&value_, &gradient_, &first_, &second_}) kernels::fill(device, *zero, 0.0f);
}

Matrix DenseParameter::shaped(Tensor& flat) const {
  const Matrix m = flat.view();
  return {m.data, m.dtype, rows_.local_extent(), cols_.local_extent(), cols_.local_extent()};
}

Matrix DenseParameter::value_share() { return value_.view().col_range(share_first_, share_); }

Matrix DenseParameter::gradient_share() { return reduced_.none() ? gradient_.view() : reduced_.view(); }

void DenseParameter::reduce(const Context& context) {
  if (reduced_.none()) return;
  const Matrix whole = gradient_.view();
  const Index parts = context.mesh.extents().data;
  context.mesh.data().reduce_scatter(ConstMatrix{whole.data, whole.dtype, parts, share_, share_}, reduced_);
}

void DenseParameter::gather(const Context& context) {
  if (reduced_.none()) return;
  const Matrix whole = value_.view();
  const Index parts = context.mesh.extents().data;
  context.mesh.data().all_gather(value_share(), Matrix{whole.data, whole.dtype, parts, share_, share_});
}

Tensor DenseParameter::whole_of(const Context& context, ConstMatrix share) const {
  const Index parts = context.mesh.extents().data;
  Tensor whole(context.device, Category::workspace, DType::f32, parts, share_);
  context.mesh.data().all_gather(share, whole);
  return whole;
}

void DenseParameter::take_share(const Context& context, ConstMatrix whole, Matrix share) const {
  const Index first = std::min(share_first_, count()), own = std::min(share_, count() - first);
  const ConstMatrix flat(whole.data, whole.dtype, 1, count(), count());
  kernels::fill(context.device, share, 0.0f);
  kernels::copy(context.device, flat.col_range(first, own), share.col_range(0, own));
}

void DenseParameter::set_value(const Context& context, ConstMatrix whole) {
  kernels::copy(context.device, whole, value());
  if (has_master()) take_share(context, whole, master_);
}

}  // namespace lorashard::core
