#include "core/ends.hpp"

#include "core/family.hpp"
#include "core/logit_change.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/gemm.hpp"

namespace lorashard::core {
namespace {

using dist::ParallelState;

const char* head_table(const ModelShape& shape) { return shape.tied_head ? "embedding.token" : "head.weight"; }

Index first_vocabulary_row(const Context& context, const TensorInfo& table) {
  return table.row_cut(context.tensor_rank(), context.tensor_size()).segment(0).global.value;
}

}  // namespace

Embedding::Embedding(const Context& context, Parameters& parameters)
    : context_(context),
      table_(parameters.value("embedding.token")),
      table_gradient_(parameters.gradient("embedding.token")),
      trains_(parameters.trains("embedding.token")),
      first_(first_vocabulary_row(context, parameters.info("embedding.token"))) {
  if (family_of(context.shape).rotary) return;
  positions_ = parameters.value("embedding.position");
  positions_gradient_ = parameters.gradient("embedding.position");
  trains_ = trains_ || parameters.trains("embedding.position");
}

Activation Embedding::forward(const Microbatch& microbatch) const {
  const Index rows = microbatch.rows();
  const RowPart part = row_part(context_, rows);
  Tensor sum(context_.device, ActivationKind::residual, DType::f32, gathered_rows(context_, rows), context_.shape.width);
  if (sum.rows() > rows) kernels::fill(context_.device, sum.view().row_range(rows, sum.rows() - rows), 0);
  kernels::embedding(context_.device,
                     kernels::EmbeddingForward{microbatch.ids, table_, first_, sum.view().row_range(0, rows)});
  Activation x = reduce_to_residual(context_, {std::move(sum), ParallelState::partial});
  if (!positions_.empty()) add_positions(microbatch, part, x.data);
  context_.look("embedding", "", x.data.view().row_range(0, part.count), microbatch, part.first);
  if (context_.activation == DType::f32) return x;
  Tensor rounded(context_.device, ActivationKind::residual, context_.activation, x.data.rows(), x.data.cols());
  kernels::copy(context_.device, x.data, rounded);
  return {std::move(rounded), x.state};
}

void Embedding::add_positions(const Microbatch& microbatch, const RowPart& part, Matrix x) const {
  const Matrix own = x.row_range(0, part.count);
  if (microbatch.positions.empty())
    return kernels::add_positions(context_.device, positions_, part.first, microbatch.length, own);
  Tensor rows(context_.device, Category::workspace, DType::f32, x.rows, x.cols);
  kernels::embedding(context_.device, kernels::EmbeddingForward{microbatch.positions, positions_, 0, rows});
  kernels::add(context_.device, rows, own);
}

void Embedding::backward(const Activation& dx, const Microbatch& microbatch) const {
  const RowPart part = row_part(context_, microbatch.rows());
  if (!positions_gradient_.empty()) {
    kernels::positions_gradient(context_.device, ConstMatrix(dx.data).row_range(0, part.count), part.first,
                                microbatch.length, positions_gradient_);
  }
  if (table_gradient_.empty()) return;
  const Gathered whole(context_, dx.data, microbatch.rows());
  kernels::embedding(context_.device,
                     kernels::EmbeddingBackward{microbatch.ids, whole.rows(), first_, table_gradient_});
}

Head::Head(const Context& context, Parameters& parameters, bool input_gradient)
    : context_(context),
      norm_(context, parameters, "final_norm"),
      input_gradient_(input_gradient),
      table_(parameters.value(head_table(context.shape))),
      table_gradient_(parameters.gradient(head_table(context.shape))),
      first_(first_vocabulary_row(context, parameters.info(head_table(context.shape)))) {}

// 64 MiB of logits: large enough for the products' speed, small beside everything else of a model with that vocabulary.
// A trained table's gradient is read and written once a chunk, so there chunks are twice as long.
Index Head::chunk_rows(Index rows) const {
  const Index vocab = (context_.shape.vocab + context_.tensor_size() - 1) / context_.tensor_size();  // the widest rank's
  const Index values = (table_gradient_.empty() ? Index{16} : Index{32}) << 20;
  const Index fitting = values / std::max<Index>(vocab, 1) / 32 * 32;
  return std::min(rows, std::max<Index>(fitting, 32));
}

Activation Head::forward(Activation x, const Microbatch& microbatch, bool gradient, Matrix loss_total) const {
  const Index rows = microbatch.rows();
  const bool norm_gradient = gradient && (input_gradient_ || norm_.trains());
  Tensor statistics;
  const Activation h = norm_.forward(x, microbatch, norm_gradient ? &statistics : nullptr);
  if (!norm_gradient) x.data.reset();

  Tensor dh;
  if (norm_gradient) {
    dh = Tensor(context_.device, ActivationKind::gradient, DType::f32, gathered_rows(context_, rows), context_.shape.width);
    if (dh.rows() > rows) kernels::fill(context_.device, dh.view().row_range(rows, dh.rows() - rows), 0);
  }
  {
    const Gathered whole(context_, h.data, rows);
    const Index step = chunk_rows(rows);
    for (Index first = 0; first < rows; first += step) {
      const Index count = std::min(step, rows - first);
      chunk(whole.rows().row_range(first, count), microbatch.labels.subspan(first, count), microbatch,
            {gradient, dh.none() ? Matrix{} : dh.view().row_range(first, count), loss_total, first});
    }
  }
  if (!norm_gradient) return {};
  const Activation reduced = reduce_to_residual(context_, {std::move(dh), ParallelState::partial});
  Tensor dx(context_.device, ActivationKind::gradient, context_.activation, reduced.data.rows(), reduced.data.cols());
  const Index own = row_part(context_, rows).count;
  if (dx.rows() > own) kernels::fill(context_.device, dx.view().row_range(own, dx.rows() - own), 0);
  norm_.backward(x, statistics, reduced, microbatch, dx, true);
  return {std::move(dx), x.state};
}

Tensor Head::losses(const Activation& x, const Microbatch& microbatch) const {
  const Index rows = microbatch.rows(), step = chunk_rows(rows);
  const Activation h = norm_.forward(x, microbatch, nullptr);
  Tensor all(context_.device, Category::workspace, DType::f32, rows, 1);
  for (Index first = 0; first < rows; first += step) {
    const Index count = std::min(step, rows - first);
    chunk(ConstMatrix(h.data).row_range(first, count), microbatch.labels.subspan(first, count), microbatch,
          {false, {}, {}, first, all.view().row_range(first, count)});
  }
  return all;
}

Tensor Head::logits(const Activation& x, const Microbatch& microbatch) const {
  const Activation h = norm_.forward(x, microbatch, nullptr);
  Tensor all(context_.device, Category::workspace, DType::f32, microbatch.rows(), context_.shape.vocab);
  if (context_.tensor_size() > 1) kernels::fill(context_.device, all, 0.0f);
  kernels::gemm(context_.device,
                {.a = h.data, .b = table_, .c = all.view().col_range(first_, table_.rows), .transpose_b = true});
  context_.mesh.tensor().all_reduce(all);
  return all;
}

void Head::chunk(ConstMatrix h, kernels::Labels labels, const Microbatch& microbatch, const Outcome& to) const {
  kernels::Device& device = context_.device;
  const auto workspace = [&](Index cols) { return Tensor(device, Category::workspace, DType::f32, h.rows, cols); };
  Tensor logits = workspace(table_.rows), maximum = workspace(1), sums = workspace(3), losses = workspace(1);
  kernels::gemm(device, {.a = h, .b = table_, .c = logits, .transpose_b = true});
  context_.look("logits", "", logits, microbatch, to.first_row, context_.shape.layers);
  if (context_.logits) context_.logits->look(h, table_, logits);
  kernels::shard_maximum(device, logits, maximum);
  context_.mesh.tensor().all_reduce(maximum, dist::Reduction::maximum);
  kernels::shard_sums(device, {logits, labels, first_, maximum, sums});
  context_.mesh.tensor().all_reduce(sums);
  kernels::loss_and_gradient(device, {.logits = logits, .labels = labels, .first = first_, .vocab = context_.shape.vocab,
                                      .smoothing = microbatch.training ? context_.label_smoothing : 0.0f,
                                      .scale = microbatch.loss_scale, .maximum = maximum, .sums = sums,
                                      .losses = losses, .gradient = to.gradient});
  context_.look("loss", "", losses, microbatch, to.first_row, context_.shape.layers);
  // Rounded to the type of what it meets next, so that both products run in that type.
  Tensor rounded;
  if (to.gradient && context_.activation != DType::f32) {
    rounded = Tensor(device, Category::workspace, context_.activation, logits.rows(), logits.cols());
    kernels::copy(device, logits, rounded);
  }
  const ConstMatrix dlogits = rounded.none() ? logits.view() : rounded.view();
  if (to.gradient && !table_gradient_.empty()) {
    kernels::gemm(device, {.a = dlogits, .b = h, .c = table_gradient_, .transpose_a = true, .beta = 1.0f});
  }
  if (to.dh.rows > 0) kernels::gemm(device, {.a = dlogits, .b = table_, .c = to.dh});
  if (!to.loss_total.empty()) kernels::add_sum(device, losses, to.loss_total);
  if (!to.row_losses.empty()) kernels::copy(device, losses, to.row_losses);
}

}  // namespace lorashard::core
