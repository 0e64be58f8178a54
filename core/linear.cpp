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
    : context_(context),
      name_(name),
      kind_(kind),
      layer_(layer),
      made_(name.find(".mlp.") != name.npos ? ActivationKind::mlp : ActivationKind::attention) {
  const TensorInfo& weight = parameters.info(name + ".weight");
  out_ = weight.row_cut(context.tensor_rank(), context.tensor_size());
  in_ = weight.col_cut(context.tensor_rank(), context.tensor_size());
  frozen_ = parameters.weight(name + ".weight");
  dense_ = parameters.trains(name + ".weight");
  if (dense_) {
    dense_value_ = parameters.value(name + ".weight");
    dense_gradient_ = parameters.gradient(name + ".weight");
  }
  if (parameters.has(name + ".bias")) {
    bias_ = parameters.value(name + ".bias");
    bias_trains_ = parameters.trains(name + ".bias");
    bias_gradient_ = parameters.gradient(name + ".bias");
  }
  attach_adapters(parameters);
}

void Linear::attach_adapters(Parameters& parameters) {
  pairs_.clear();
  rank_sum_ = 0;
  pairs_cover_ = false;
  for (const AdapterSpec& spec : parameters.adapters()) {
    if (spec.layer == layer_ && spec.linear() == name_) attach(spec, parameters);
  }
  if (pairs_.empty()) return;
  Index covered = 0;
  for (const Pair& pair : pairs_)
    for (const Piece& piece : pair.pieces) covered += piece.count;
  pairs_cover_ = covered == out_.local_extent();  // q, k and v do not overlap, and nothing else is a part
  ReplicatedGroup& group = parameters.replicated();
  const int first = parameters.adapter_a(pairs_.front().spec), count = static_cast<int>(pairs_.size());
  const dist::Run own = in_.segment(0);
  a_ = group.stacked_value(first, count).col_range(own.global.value, own.count);
  da_ = group.stacked_gradient(first, count);
  if (!da_.empty()) da_ = da_.col_range(own.global.value, own.count);
}

void Linear::attach(const AdapterSpec& spec, Parameters& parameters) {
  Pair pair;
  pair.spec = spec;
  pair.u_first = rank_sum_;
  rank_sum_ += spec.rank;
  pair.b = parameters.replicated().value(parameters.adapter_b(spec));
  pair.db = parameters.replicated().gradient(parameters.adapter_b(spec));
  const int segment = spec.place.segment;
  if (segment < 0) {
    for (const dist::Run& run : out_.runs()) pair.pieces.push_back({run.global.value, run.local.value, run.count});
  } else {
    Index before = 0;  // B's rows count from the segment's start
    for (int s = 0; s < segment; ++s) before += parameters.info(name_ + ".weight").segments[s].extent;
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

void Linear::multiply_forward(ConstMatrix x, Matrix y, const Product& product) const {
  if (frozen_) {
    kernels::multiply(context_.device, kernels::WeightForward{*frozen_, x, y, product.bias, product.addend,
                                                              product.epilogue, product.aux});
    return;
  }
  kernels::gemm(context_.device, {.a = x, .b = dense_value_, .c = y, .transpose_b = true,
                                  .beta = product.addend.empty() ? 0.0f : 1.0f, .addend = product.addend,
                                  .bias = product.bias, .epilogue = product.epilogue, .aux = product.aux});
}

void Linear::multiply_backward(ConstMatrix dy, Matrix dx, const Product& product) const {
  if (frozen_) {
    kernels::multiply(context_.device,
                      kernels::WeightBackward{*frozen_, dy, dx, product.addend, product.epilogue, product.aux_in});
    return;
  }
  kernels::gemm(context_.device, {.a = dy, .b = dense_value_, .c = dx, .beta = product.addend.empty() ? 0.0f : 1.0f,
                                  .addend = product.addend, .epilogue = product.epilogue, .aux_in = product.aux_in});
}

// u (RowPart::buffer, R) f32 = A x over the rows that are ours.
Tensor Linear::project_down(ConstMatrix x, const Microbatch& microbatch, const RowPart& part) const {
  Tensor u(context_.device, ActivationKind::adapter, DType::f32, part.buffer, rank_sum_);
  if (part.count < part.buffer) kernels::fill(context_.device, u.view().row_range(part.count, part.buffer - part.count), 0);
  const Tensor masked = adapter_input(x, microbatch, part.first);
  const ConstMatrix seen = masked.none() ? x : ConstMatrix(masked);
  kernels::gemm(context_.device, {.a = seen, .b = a_, .c = u.view().row_range(0, part.count), .transpose_b = true,
                                  .phase = Phase::adapter});
  return u;
}

void Linear::project_up(ConstMatrix u, Matrix y, ConstMatrix addend) const {
  for (const Pair& pair : pairs_) {
    for (const Piece& piece : pair.pieces) {
      kernels::gemm(context_.device,
                    {.a = u.col_range(pair.u_first, pair.spec.rank), .b = pair.b.row_range(piece.b_row, piece.count),
                     .c = y.col_range(piece.local, piece.count), .transpose_b = true, .alpha = pair.spec.scale(),
                     .beta = addend.empty() ? 0.0f : 1.0f,
                     .addend = addend.empty() ? addend : addend.col_range(piece.local, piece.count),
                     .phase = Phase::adapter});
    }
  }
}

// All rows of what each tensor rank has for its own.
Tensor Linear::gather_rows(Tensor part, Index rows) const {
  if (!context_.splits_rows()) return part;
  Tensor whole(context_.device, ActivationKind::adapter, part.dtype(), gathered_rows(context_, rows), part.cols());
  context_.mesh.tensor().all_gather(part, whole);
  return whole;
}

Activation Linear::forward(const Activation& x, const Microbatch& microbatch, Tensor* u, std::optional<Gelu> gelu) const {
  dist::expect_state(x.state, context_.splits_rows() ? ParallelState::cut : ParallelState::whole, name_ + " input");
  const Index rows = microbatch.rows();
  const RowPart part = row_part(context_, rows);
  const auto output = [&] {
    return Tensor(context_.device, made_, context_.activation, rows, out_.local_extent());
  };
  Tensor y = output(), projected;
  const bool cover = adds_pairs() && pairs_cover_;
  if (adds_pairs()) {
    projected = gather_rows(project_down(ConstMatrix(x.data).row_range(0, part.count), microbatch, part), rows);
    if (cover) project_up(ConstMatrix(projected).row_range(0, rows), y, {});
  }
  Product product{.bias = bias_, .addend = cover ? ConstMatrix(y) : ConstMatrix()};
  if (gelu) {
    product.epilogue = kernels::Epilogue::gelu;
    if (gelu->before) {
      *gelu->before = output();
      product.aux = *gelu->before;
    }
  }
  {
    const Gathered whole(context_, x.data, rows);
    multiply_forward(whole.rows(), y, product);
  }
  if (adds_pairs() && !cover) project_up(ConstMatrix(projected).row_range(0, rows), y, y);
  context_.look(name_, "", y, microbatch, 0);
  if (u) *u = std::move(projected);
  return {std::move(y), ParallelState::cut};
}

Activation Linear::forward(const Activation& x, const Activation& residual, const Microbatch& microbatch, Tensor* u) const {
  dist::expect_state(x.state, ParallelState::cut, name_ + " input");
  if (context_.tensor_size() == 1) return add_to_residual(x, residual, microbatch, u);
  const Index rows = microbatch.rows(), own = row_part(context_, rows).count;
  Tensor y(context_.device, ActivationKind::residual, DType::f32, gathered_rows(context_, rows), out_.local_extent());
  if (y.rows() > rows) kernels::fill(context_.device, y.view().row_range(rows, y.rows() - rows), 0);
  const Matrix used = y.view().row_range(0, rows);
  if (adds_pairs()) {
    Tensor projected = project_down(x.data, microbatch, {rows, rows, 0, rows});
    project_up(projected, used, {});
    if (u) *u = std::move(projected);
  }
  multiply_forward(x.data, used, {.addend = adds_pairs() ? ConstMatrix(used) : ConstMatrix()});
  Activation branch = reduce_to_residual(context_, {std::move(y), ParallelState::partial});

  Tensor other;  // the sum lies in the branch's own memory where the types agree
  if (context_.activation != DType::f32) {
    other = Tensor(context_.device, ActivationKind::residual, context_.activation, branch.data.rows(), branch.data.cols());
  }
  Tensor& sum = other.none() ? branch.data : other;
  kernels::add_residual(context_.device, ConstMatrix(branch.data).row_range(0, own),
                        ConstMatrix(residual.data).row_range(0, own), bias_, sum.view().row_range(0, own));
  if (sum.rows() > own) kernels::fill(context_.device, sum.view().row_range(own, sum.rows() - own), 0);
  context_.look(name_, "", sum.view().row_range(0, own), microbatch, row_part(context_, rows).first);
  return {std::move(sum), residual.state};
}

// A row layer on one tensor rank, where nothing is summed between ranks.
Activation Linear::add_to_residual(const Activation& x, const Activation& residual, const Microbatch& microbatch,
                                   Tensor* u) const {
  const Index rows = microbatch.rows();
  Tensor y(context_.device, ActivationKind::residual, context_.activation, rows, out_.local_extent());
  if (adds_pairs()) {
    Tensor projected = project_down(x.data, microbatch, {rows, rows, 0, rows});
    project_up(projected, y, residual.data);
    if (u) *u = std::move(projected);
  }
  multiply_forward(x.data, y, {.bias = bias_, .addend = adds_pairs() ? ConstMatrix(y) : ConstMatrix(residual.data)});
  context_.look(name_, "", y, microbatch, 0);
  return {std::move(y), residual.state};
}

void Linear::project_again(const Activation& x, const Microbatch& microbatch, Tensor* u) const {
  const Index rows = microbatch.rows();
  if (!pairs_.empty()) *u = project_down(x.data, microbatch, {rows, rows, 0, rows});
}

}  // namespace lorashard::core
