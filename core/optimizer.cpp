#include "core/optimizer.hpp"

#include "kernels/elementwise.hpp"

namespace lorashard::core {
namespace {

// Of the tied table's gradient, from the last stage and from the first: no activation between the two has them
// (dist::route), and the first stage is next after the last, the last before the first (communicator.hpp).
constexpr int kFromLast = 0, kFromFirst = 1;

const char* const kTable = "embedding.token";

}  // namespace

Optimizer::Optimizer(const Context& context, Parameters& parameters, const OptimizerConfig& config)
    : context_(context), parameters_(parameters), config_(config), buckets_(parameters.replicated(), context.mesh.replica()) {}

void Optimizer::zero_gradients() {
  if (parameters_.replicated().count() > 0) kernels::fill(context_.device, parameters_.replicated().gradients(), 0);
  for (DenseParameter& p : parameters_.dense()) kernels::fill(context_.device, p.gradient(), 0);
}

// The tied table lies on the first and on the last stage; each has the gradient of its own use.
bool Optimizer::shares_tied_table() const {
  const dist::Mesh& mesh = context_.mesh;
  return context_.shape.tied_head && mesh.extents().pipeline > 1 && (mesh.first_stage() || mesh.last_stage()) &&
         parameters_.trains(kTable);
}

// Both ends add the two parts in the same order, so their copies stay equal bit for bit.
void Optimizer::sum_tied_table() {
  const Matrix own = parameters_.gradient(kTable);
  Tensor other(context_.device, Category::communication, DType::f32, own.rows, own.cols);
  dist::Communicator& pipeline = context_.mesh.pipeline();
  const bool first = context_.mesh.first_stage();
  const int peer = first ? pipeline.size() - 1 : 0;
  const auto sent = pipeline.send(own, peer, first ? kFromFirst : kFromLast);
  pipeline.receive(other, peer, first ? kFromLast : kFromFirst);
  sent->wait();
  kernels::add(context_.device, other, own);  // two summands: the order does not matter
}

void Optimizer::layer_done(Index layer) {
  buckets_.layer_done(layer);
  for (DenseParameter& p : parameters_.dense())
    if (p.info().layer == layer) p.start_reduce(context_);
}

void Optimizer::reduce() {
  buckets_.finish();
  if (shares_tied_table()) sum_tied_table();
  for (DenseParameter& p : parameters_.dense()) p.reduce(context_);
}

void Optimizer::add_squares(Matrix total) {
  const dist::MeshPoint& point = context_.mesh.point();
  if (parameters_.replicated().count() > 0 && point.tensor == 0 && point.data == 0) {
    kernels::add_sum_of_squares(context_.device, parameters_.replicated().gradients(), total);
  }
  const bool table_counted_elsewhere = shares_tied_table() && !context_.mesh.first_stage();
  for (DenseParameter& p : parameters_.dense()) {
    if (table_counted_elsewhere && p.info().name == kTable) continue;
    for (const Matrix& part : p.owned_gradients()) kernels::add_sum_of_squares(context_.device, part, total);
  }
}

void Optimizer::update(double lr, ConstMatrix control, Index step) {
  kernels::AdamW common;
  common.lr = static_cast<float>(lr);
  common.beta1 = static_cast<float>(config_.beta1);
  common.beta2 = static_cast<float>(config_.beta2);
  common.eps = static_cast<float>(config_.eps);
  common.weight_decay = static_cast<float>(config_.weight_decay);
  common.control = control;
  common.step = step;
  if (parameters_.replicated().count() > 0) update_replicated(common);
  for (DenseParameter& p : parameters_.dense()) {
    update_dense(p, common);
    p.gather(context_);
  }
}

// One pass over the flat buffer for every run of entries that agree on weight decay: a single one for adapters.
void Optimizer::update_replicated(const kernels::AdamW& common) {
  ReplicatedGroup& group = parameters_.replicated();
  const auto& entries = group.entries();
  for (std::size_t first = 0; first < entries.size();) {
    std::size_t end = first + 1;
    while (end < entries.size() && entries[end].decay == entries[first].decay) ++end;
    const Index offset = entries[first].offset;
    const Index count = (end < entries.size() ? entries[end].offset : group.count()) - offset;
    kernels::AdamW run = common;
    run.weight = group.values().col_range(offset, count);
    run.first_moment = group.first_moments().col_range(offset, count);
    run.second_moment = group.second_moments().col_range(offset, count);
    run.gradient = group.gradients().col_range(offset, count);
    if (!entries[first].decay) run.weight_decay = 0;
    kernels::adamw(context_.device, run);
    first = end;
  }
}

void Optimizer::update_dense(DenseParameter& p, const kernels::AdamW& common) {
  kernels::AdamW run = common;
  run.weight = p.has_master() ? p.master_share() : p.value_share();
  run.first_moment = p.first_moment();
  run.second_moment = p.second_moment();
  run.gradient = p.gradient_share();
  if (p.has_master()) run.low_precision = p.value_share();
  if (!p.info().decay) run.weight_decay = 0;
  kernels::adamw(context_.device, run);
}

Index Optimizer::reduced_bytes() const {
  Index bytes = 0;
  if (context_.mesh.replica().size() > 1) bytes += parameters_.replicated().count() * 4;
  if (context_.mesh.data().size() > 1) {
    for (const DenseParameter& p : parameters_.dense()) bytes += p.share() * context_.mesh.data().size() * 4;
  }
  return bytes;
}

}  // namespace lorashard::core
