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

std::vector<Matrix> DenseParameter::owned_gradients() {
  const Matrix all = gradient_share();
  if (!rows_.overlaps() && !cols_.overlaps()) return {all};
  const bool by_rows = rows_.overlaps();  // else a vector, one row
  const Index stride = by_rows ? cols_.local_extent() : 1;
  const dist::AxisCut own = by_rows ? owned_rows() : owned_cols();
  std::vector<Matrix> owned;
  for (const dist::Run& run : own.runs()) {
    const Index first = std::max(run.local.value * stride, share_first_);
    const Index end = std::min((run.local.value + run.count) * stride, share_first_ + share_);
    if (first < end) owned.push_back(all.col_range(first - share_first_, end - first));
  }
  return owned;
}

void DenseParameter::sum_held_alike(const Context& context) {
  const bool by_rows = rows_.overlaps();
  if (!by_rows && !cols_.overlaps()) return;
  Index extent = 0;
  for (const dist::Segment& s : info_.segments) extent += s.units > 0 ? s.extent : 0;
  const auto part = [&](Matrix m, Index first, Index count) {
    return by_rows ? m.row_range(first, count) : m.col_range(first, count);
  };
  Tensor sum(context.device, Category::communication, DType::f32, by_rows ? extent : 1, by_rows ? info_.cols : extent);
  const auto for_each_run = [&](const auto& move) {
    Index begin = 0, at = 0;  // of the segment in the whole tensor, and in `sum`
    for (int s = 0; s < static_cast<int>(info_.segments.size()); ++s) {
      const dist::Segment& segment = info_.segments[s];
      const dist::Run run = (by_rows ? rows_ : cols_).segment(s);
      if (segment.units > 0) {
        move(part(gradient(), run.local.value, run.count), part(sum, at + run.global.value - begin, run.count));
        at += segment.extent;
      }
      begin += segment.extent;
    }
  };
  kernels::fill(context.device, sum, 0.0f);
  for_each_run([&](Matrix own, Matrix whole) { kernels::copy(context.device, own, whole); });
  context.mesh.tensor().all_reduce(sum);
  for_each_run([&](Matrix own, Matrix whole) { kernels::copy(context.device, whole, own); });
}

void DenseParameter::start_reduce(const Context& context) {
  started_ = true;
  sum_held_alike(context);
  if (reduced_.none()) return;
  const Matrix whole = gradient_.view();
  const Index parts = context.mesh.extents().data;
  reduction_ = context.mesh.data().start_reduce_scatter(ConstMatrix{whole.data, whole.dtype, parts, share_, share_}, reduced_);
}

void DenseParameter::reduce(const Context& context) {
  if (!started_) start_reduce(context);
  started_ = false;
  if (reduction_) reduction_->wait();
  reduction_.reset();
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
