#include "core/linear.hpp"

namespace lorashard::core {
namespace {

using dist::ParallelState;
using kernels::Phase;
using kernels::text;

}  // namespace

kernels::RandomKey dropout_key(std::uint64_t seed, const std::string& linear, Index step) {
  return {seed, stream_of(text("dropout ", linear, " step ", step))};
}

Linear::Linear(const Context& context, Parameters& parameters, Kind kind, Index layer, const std::string& name)
    : context_(context), name_(name), kind_(kind) {
  const TensorInfo& weight = parameters.info(name + ".weight");
  out_ = weight.row_cut(context.tensor_rank(), context.tensor_size());
  in_ = weight.col_cut(context.tensor_rank(), context.tensor_size());
  frozen_ = parameters.weight(name + ".weight");
  dense_ = parameters.trains(name + ".weight");
  if (dense_) {
    dense_value_ = parameters.value(name + ".weight");
    dense_gradient_ = parameters.gradient(name + ".weight");
  }
  bias_ = parameters.value(name + ".bias");
  bias_trains_ = parameters.trains(name + ".bias");
  bias_gradient_ = parameters.gradient(name + ".bias");
  for (const AdapterSpec& spec : parameters.adapters()) {
    if (spec.layer == layer && text("layers.", layer, ".", place_of(spec.target).linear) == name) attach(spec, parameters);
  }
  if (pairs_.empty()) return;
  ReplicatedGroup& group = parameters.replicated();
  const int first = parameters.adapter_a(pairs_.front().spec), count = static_cast<int>(pairs_.size());
  const dist::Run own = in_.segment(0);
  a_ = group.stacked_value(first, count).col_range(own.global.value, own.count);
  da_ = group.stacked_gradient(first, count).col_range(own.global.value, own.count);
}

void Linear::attach(const AdapterSpec& spec, Parameters& parameters) {
  Pair pair;
  pair.spec = spec;
  pair.u_first = rank_sum_;
  rank_sum_ += spec.rank;
  pair.b = parameters.replicated().value(parameters.adapter_b(spec));
  pair.db = parameters.replicated().gradient(parameters.adapter_b(spec));
  const int segment = place_of(spec.target).segment;
  if (segment < 0) {
    for (const dist::Run& run : out_.runs()) pair.pieces.push_back({run.global.value, run.local.value, run.count});
  } else {
    Index before = 0;  // B's rows count from the segment's start
    for (int s = 0; s < segment; ++s) before += parameters.info(name_ + ".weight").segments[s];
    const dist::Run run = out_.segment(segment);
    if (run.count > 0) pair.pieces.push_back({run.global.value - before, run.local.value, run.count});
  }
  pairs_.push_back(std::move(pair));
}

kernels::DropoutMask Linear::mask(const Microbatch& microbatch, Index first_row) const {
  return {dropout_key(context_.adapter_seed, name_, microbatch.step), static_cast<float>(context_.dropout),
          microbatch.first_sequence * microbatch.length + first_row, in_.segment(0).global.value, in_.global_extent()};
}

// The input that A sees: x itself, or a masked copy.
Tensor Linear::adapter_input(ConstMatrix x, const Microbatch& microbatch, Index first_row) const {
  if (!drops(microbatch)) return {};
  Tensor masked(context_.device, Category::workspace, x.dtype, x.rows, x.cols);
  kernels::dropout(context_.device, mask(microbatch, first_row), x, masked);
  return masked;
}

void Linear::multiply_forward(ConstMatrix x, Matrix y, ConstMatrix bias) const {
  if (frozen_) {
    kernels::multiply(context_.device, kernels::WeightForward{*frozen_, x, y, bias});
  } else {
    kernels::gemm(context_.device, {.a = x, .b = dense_value_, .c = y, .transpose_b = true, .bias = bias});
  }
}

void Linear::multiply_backward(ConstMatrix dy, Matrix dx) const {
  if (frozen_) {
    kernels::multiply(context_.device, kernels::WeightBackward{*frozen_, dy, dx});
  } else {
    kernels::gemm(context_.device, {.a = dy, .b = dense_value_, .c = dx});
  }
}

void Linear::dense_gradient(ConstMatrix dy, ConstMatrix x) const {
  kernels::gemm(context_.device, {.a = dy, .b = x, .c = dense_gradient_, .transpose_a = true, .beta = 1.0f});
}

// u (RowPart::buffer, R) f32 = A x over the rows that are ours.
Tensor Linear::project_down(ConstMatrix x, const Microbatch& microbatch, const RowPart& part) const {
  Tensor u(context_.device, Category::activation, DType::f32, part.buffer, rank_sum_);
  if (part.count < part.buffer) kernels::fill(context_.device, u.view().row_range(part.count, part.buffer - part.count), 0);
  const Tensor masked = adapter_input(x, microbatch, part.first);
  const ConstMatrix seen = masked.none() ? x : ConstMatrix(masked);
  kernels::gemm(context_.device, {.a = seen, .b = a_, .c = u.view().row_range(0, part.count), .transpose_b = true,
                                  .phase = Phase::adapter});
  return u;
}

// y (M, out/t) += s u B^T, pair by pair.
void Linear::project_up(ConstMatrix u, Matrix y) const {
  for (const Pair& pair : pairs_) {
    for (const Piece& piece : pair.pieces) {
      kernels::gemm(context_.device, {.a = u.col_range(pair.u_first, pair.spec.rank),
                                      .b = pair.b.row_range(piece.b_row, piece.count),
                                      .c = y.col_range(piece.local, piece.count), .transpose_b = true,
                                      .alpha = pair.spec.scale(), .beta = 1.0f, .phase = Phase::adapter});
    }
  }
}

// du (gathered_rows, R) f32 = s dy B, and dB += s dy^T u.
Tensor Linear::backward_through_b(ConstMatrix dy, ConstMatrix u) const {
  const Index buffer = kind_ == Kind::column ? gathered_rows(context_, dy.rows) : dy.rows;
  Tensor du(context_.device, Category::activation, DType::f32, buffer, rank_sum_);
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

Activation Linear::forward(const Activation& x, const Microbatch& microbatch, Tensor* u) const {
  return kind_ == Kind::column ? forward_column(x, microbatch, u) : forward_row(x, microbatch, u);
}

Activation Linear::forward_column(const Activation& x, const Microbatch& microbatch, Tensor* u) const {
  dist::expect_state(x.state, context_.splits_rows() ? ParallelState::cut : ParallelState::whole, name_ + " input");
  const Index rows = microbatch.rows();
  const RowPart part = row_part(context_, rows);
  Tensor y(context_.device, Category::activation, context_.activation, rows, out_.local_extent());
  {
    const Gathered whole(context_, x.data, rows);
    multiply_forward(whole.rows(), y, bias_);
  }
  if (!pairs_.empty()) {
    Tensor projected = project_down(ConstMatrix(x.data).row_range(0, part.count), microbatch, part);
    if (context_.splits_rows()) {
      Tensor whole(context_.device, Category::activation, DType::f32, gathered_rows(context_, rows), rank_sum_);
      context_.mesh.tensor().all_gather(projected, whole);
      projected = std::move(whole);
    }
    project_up(ConstMatrix(projected).row_range(0, rows), y);
    if (u) *u = std::move(projected);
  }
  return {std::move(y), ParallelState::cut};
}

Activation Linear::forward_row(const Activation& x, const Microbatch& microbatch, Tensor* u) const {
  dist::expect_state(x.state, ParallelState::cut, name_ + " input");
  const Index rows = microbatch.rows();
  Tensor y(context_.device, Category::activation, DType::f32, gathered_rows(context_, rows), out_.local_extent());
  if (y.rows() > rows) kernels::fill(context_.device, y.view().row_range(rows, y.rows() - rows), 0);
  multiply_forward(x.data, y.view().row_range(0, rows), {});
  if (!pairs_.empty()) {
    Tensor projected = project_down(x.data, microbatch, {rows, rows, 0, rows});
    project_up(projected, y.view().row_range(0, rows));
    if (u) *u = std::move(projected);
  }
  return reduce_to_residual(context_, {std::move(y), ParallelState::partial});
}

void Linear::project_again(const Activation& x, const Microbatch& microbatch, Tensor* u) const {
  const Index rows = microbatch.rows();
  if (!pairs_.empty()) *u = project_down(x.data, microbatch, {rows, rows, 0, rows});
}

Activation Linear::backward(const Activation& x, ConstMatrix u, const Activation& dy, const Microbatch& microbatch,
                            bool wants_input_gradient) const {
  return kind_ == Kind::column ? backward_column(x, u, dy, microbatch, wants_input_gradient)
                               : backward_row(x, u, dy, microbatch, wants_input_gradient);
}

Activation Linear::backward_row(const Activation& x, ConstMatrix u, const Activation& dy, const Microbatch& microbatch,
                                bool wants_input_gradient) const {
  const Index rows = microbatch.rows();
  if (bias_trains_ && !bias_gradient_.empty()) {
    const Index own = row_part(context_, rows).count;
    kernels::bias_gradient(context_.device, ConstMatrix(dy.data).row_range(0, own), bias_gradient_);
  }
  if (!needs_input() && !wants_input_gradient) return {};
  const Gathered whole(context_, dy.data, rows);
  if (dense_) dense_gradient(whole.rows(), x.data);
  Tensor du;
  if (!pairs_.empty()) {
    du = backward_through_b(whole.rows(), u);
    gradient_of_a(du, x.data, microbatch, 0);
  }
  if (!wants_input_gradient) return {};
  Tensor dx(context_.device, Category::activation, context_.activation, rows, in_.local_extent());
  multiply_backward(whole.rows(), dx);
  if (!pairs_.empty()) add_adapter_gradient(du, microbatch, 0, dx);
  return {std::move(dx), ParallelState::cut};
}

Activation Linear::backward_column(const Activation& x, ConstMatrix u, const Activation& dy, const Microbatch& microbatch,
                                   bool wants_input_gradient) const {
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
    du = backward_through_b(dy.data, u.row_range(0, rows));
    if (context_.splits_rows()) {
      Tensor own(context_.device, Category::activation, DType::f32, part.buffer, rank_sum_);
      context_.mesh.tensor().reduce_scatter(du, own);
      du = std::move(own);
    }
    gradient_of_a(ConstMatrix(du).row_range(0, part.count), ConstMatrix(x.data).row_range(0, part.count), microbatch,
                  part.first);
  }
  if (!wants_input_gradient) return {};
  Tensor dx(context_.device, Category::activation, DType::f32, gathered_rows(context_, rows), in_.local_extent());
  if (dx.rows() > rows) kernels::fill(context_.device, dx.view().row_range(rows, dx.rows() - rows), 0);
  multiply_backward(dy.data, dx.view().row_range(0, rows));
  // Whole rows: du is partial like dx, so one reduction carries both. Split rows: du is summed already, and joins after.
  if (!pairs_.empty() && !context_.splits_rows()) add_adapter_gradient(du, microbatch, 0, dx);
  Activation reduced = reduce_to_residual(context_, {std::move(dx), ParallelState::partial});
  if (!pairs_.empty() && context_.splits_rows()) {
    add_adapter_gradient(ConstMatrix(du).row_range(0, part.count), microbatch, part.first,
                         reduced.data.view().row_range(0, part.count));
  }
  return reduced;
}

}  // namespace lorashard::core
