// The backward pass of a sharded linear layer and its adapters.
#include "core/linear.hpp"

namespace lorashard::core {

using dist::ParallelState;
using kernels::Phase;

void Linear::dense_gradient(ConstMatrix dy, ConstMatrix x) const {
  kernels::gemm(context_.device, {.a = dy, .b = x, .c = dense_gradient_, .transpose_a = true, .beta = 1.0f});
}

// du (gathered_rows, R) f32 = s dy B, and dB += s dy^T u.
Tensor Linear::backward_through_b(ConstMatrix dy, ConstMatrix u) const {
  const Index buffer = kind_ == Kind::column ? gathered_rows(context_, dy.rows) : dy.rows;
  Tensor du(context_.device, ActivationKind::gradient, DType::f32, buffer, rank_sum_);
  if (buffer > dy.rows) kernels::fill(context_.device, du.view().row_range(dy.rows, buffer - dy.rows), 0);
  for (const Pair& pair : pairs_) {
    const float scale = pair.spec.scale();
    const Matrix du_pair = du.view().row_range(0, dy.rows).col_range(pair.u_first, pair.spec.rank);
    if (pair.pieces.empty()) kernels::fill(context_.device, du_pair, 0);
    float beta = 0;
    for (const Piece& piece : pair.pieces) {
      const ConstMatrix dy_piece = dy.col_range(piece.local, piece.count);
      kernels::gemm(context_.device, {.a = dy_piece, .b = pair.b.row_range(piece.b_row, piece.count), .c = du_pair,
                                      .alpha = scale, .beta = beta, .phase = Phase::adapter});
      kernels::gemm(context_.device, {.a = dy_piece, .b = u.col_range(pair.u_first, pair.spec.rank),
                                      .c = pair.db.row_range(piece.b_row, piece.count), .transpose_a = true,
                                      .alpha = scale, .beta = 1.0f, .phase = Phase::adapter});
      beta = 1.0f;
    }
  }
  return du;
}

// dA += du^T (mask x).
void Linear::gradient_of_a(ConstMatrix du, ConstMatrix x, const Microbatch& microbatch, Index first_row) const {
  const Tensor masked = adapter_input(x, microbatch, first_row);
  const ConstMatrix seen = masked.none() ? x : ConstMatrix(masked);
  kernels::gemm(context_.device, {.a = du, .b = seen, .c = da_, .transpose_a = true, .beta = 1.0f, .phase = Phase::adapter});
}

// dx += mask (du A).
void Linear::add_adapter_gradient(ConstMatrix du, const Microbatch& microbatch, Index first_row, Matrix dx) const {
  if (!drops(microbatch)) {
    kernels::gemm(context_.device, {.a = du, .b = a_, .c = dx, .beta = 1.0f, .phase = Phase::adapter});
    return;
  }
  Tensor unmasked(context_.device, Category::workspace, DType::f32, dx.rows, dx.cols);
  kernels::gemm(context_.device, {.a = du, .b = a_, .c = unmasked, .phase = Phase::adapter});
  kernels::dropout_add(context_.device, mask(microbatch, first_row), unmasked, dx);
}

Activation Linear::backward(const Backward& args, const Microbatch& microbatch) const {
  return kind_ == Kind::column ? backward_column(args, microbatch) : backward_row(args, microbatch);
}

// dx = dy W + mask (du A), or that times gelu'. An empty du has no part in it.
void Linear::input_gradient(ConstMatrix dy, ConstMatrix du, const Microbatch& microbatch, Matrix dx,
                            const Tensor* before_gelu) const {
  Product product;
  if (before_gelu) {
    product.epilogue = kernels::Epilogue::gelu_backward;
    product.aux_in = *before_gelu;
  }
  const bool masked = !du.empty() && drops(microbatch);
  if (!masked) {
    if (!du.empty()) {
      kernels::gemm(context_.device, {.a = du, .b = a_, .c = dx, .phase = Phase::adapter});
      product.addend = dx;
    }
    return multiply_backward(dy, dx, product);
  }
  multiply_backward(dy, dx, {});
  add_adapter_gradient(du, microbatch, 0, dx);
  if (before_gelu) kernels::gelu_backward(context_.device, *before_gelu, dx, dx);
}

Activation Linear::backward_row(const Backward& args, const Microbatch& microbatch) const {
  const Index rows = microbatch.rows();
  if (bias_trains_ && !bias_gradient_.empty()) {
    const Index own = row_part(context_, rows).count;
    kernels::bias_gradient(context_.device, ConstMatrix(args.dy.data).row_range(0, own), bias_gradient_);
  }
  if (!needs_input() && !args.wants_input_gradient) return {};
  const Gathered whole(context_, args.dy.data, rows);
  if (dense_) dense_gradient(whole.rows(), args.x.data);
  Tensor du;
  if (!pairs_.empty()) {
    du = backward_through_b(whole.rows(), args.u);
    gradient_of_a(du, args.x.data, microbatch, 0);
  }
  if (!args.wants_input_gradient) return {};
  Tensor dx(context_.device, ActivationKind::gradient, context_.activation, rows, in_.local_extent());
  input_gradient(whole.rows(), du, microbatch, dx, args.before_gelu);
  context_.look(name_, " input", dx, microbatch, 0);
  return {std::move(dx), ParallelState::cut};
}

Activation Linear::backward_column(const Backward& args, const Microbatch& microbatch) const {
  const Activation &x = args.x, &dy = args.dy;
  dist::expect_state(dy.state, ParallelState::cut, name_ + " output gradient");
  const Index rows = microbatch.rows();
  const RowPart part = row_part(context_, rows);
  if (bias_trains_) kernels::bias_gradient(context_.device, dy.data, bias_gradient_);
  if (dense_) {
    const Gathered whole(context_, x.data, rows);
    dense_gradient(dy.data, whole.rows());
  }
  Tensor du;
  if (!pairs_.empty()) {
    du = backward_through_b(dy.data, args.u.row_range(0, rows));
    if (context_.splits_rows()) {
      Tensor own(context_.device, ActivationKind::gradient, DType::f32, part.buffer, rank_sum_);
      context_.mesh.tensor().reduce_scatter(du, own);
      du = std::move(own);
    }
    gradient_of_a(ConstMatrix(du).row_range(0, part.count), ConstMatrix(x.data).row_range(0, part.count), microbatch,
                  part.first);
  }
  if (!args.wants_input_gradient) return {};
  const DType type = context_.tensor_size() == 1 ? context_.activation : DType::f32;
  Tensor dx(context_.device, ActivationKind::gradient, type, gathered_rows(context_, rows), in_.local_extent());
  if (dx.rows() > rows) kernels::fill(context_.device, dx.view().row_range(rows, dx.rows() - rows), 0);
  // Whole rows: du is partial like dx, so one reduction carries both. Split rows: du is summed already, and joins after.
  const bool together = !context_.splits_rows();
  input_gradient(dy.data, together ? ConstMatrix(du) : ConstMatrix(), microbatch, dx.view().row_range(0, rows), nullptr);
  Activation reduced = reduce_to_residual(context_, {std::move(dx), ParallelState::partial});
  if (!pairs_.empty() && !together) {
    add_adapter_gradient(ConstMatrix(du).row_range(0, part.count), microbatch, part.first,
                         reduced.data.view().row_range(0, part.count));
  }
  context_.look(name_, " input", reduced.data.view().row_range(0, part.count), microbatch, part.first);
  return reduced;
}

}  // namespace lorashard::core
