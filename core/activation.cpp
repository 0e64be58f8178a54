#include "core/activation.hpp"

namespace lorashard::core {

Activation reduce_to_residual(const Context& context, Activation partial) {
  dist::expect_state(partial.state, dist::ParallelState::partial, "what enters the residual stream");
  if (context.tensor_size() == 1) return {std::move(partial.data), dist::ParallelState::whole};
  if (!context.splits_rows()) {
    context.mesh.tensor().all_reduce(partial.data);
    return {std::move(partial.data), dist::ParallelState::whole};
  }
  const Index share = partial.data.rows() / context.tensor_size();
  Tensor part(context.device, Category::communication, DType::f32, share, partial.data.cols());
  context.mesh.tensor().reduce_scatter(partial.data, part);
  return {std::move(part), dist::ParallelState::cut};
}

Gathered::Gathered(const Context& context, ConstMatrix part, Index rows) : view_(part) {
  if (!context.splits_rows()) return;
  whole_ = Tensor(context.device, Category::communication, part.dtype, gathered_rows(context, rows), part.cols);
  context.mesh.tensor().all_gather(part, whole_);
  view_ = ConstMatrix(whole_.view()).row_range(0, rows);
}

}  // namespace lorashard::core
