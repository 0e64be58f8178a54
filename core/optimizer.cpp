#include "core/optimizer.hpp"

#include "kernels/adamw.hpp"
#include "kernels/elementwise.hpp"

namespace lorashard::core {
namespace {

constexpr int kTiedTag = 0;  // no activation has it (dist::route)

const char* const kTable = "embedding.token";

}  // namespace

Optimizer::Optimizer(const Context& context, Parameters& parameters, const OptimizerConfig& config)
    : context_(context), parameters_(parameters), config_(config) {}

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
  const int peer = context_.mesh.first_stage() ? pipeline.size() - 1 : 0;
  const auto sent = pipeline.send(own, peer, kTiedTag);
  pipeline.receive(other, peer, kTiedTag);
  sent->wait();
  kernels::add(context_.device, other, own);  // two summands: the order does not matter
}

void Optimizer::reduce() {
  if (parameters_.replicated().count() > 0) context_.mesh.replica().all_reduce(parameters_.replicated().gradients());
  if (shares_tied_table()) sum_tied_table();
  for (DenseParameter& p : parameters_.dense()) p.reduce(context_);
}

double Optimizer::sum_of_squares() {
  const dist::MeshPoint& point = context_.mesh.point();
  double sum = 0;
  if (parameters_.replicated().count() > 0 && point.tensor == 0 && point.data == 0) {
    sum += kernels::sum_of_squares(context_.device, parameters_.replicated().gradients());
  }
  const bool table_counted_elsewhere = shares_tied_table() && !context_.mesh.first_stage();
  for (DenseParameter& p : parameters_.dense()) {
    if (table_counted_elsewhere && p.info().name == kTable) continue;
    sum += kernels::sum_of_squares(context_.device, p.gradient_share());
  }
  return sum;
}

void Optimizer::update(double lr, double scale, Index step) {
  if (parameters_.replicated().count() > 0) update_replicated(lr, scale, step);
  for (DenseParameter& p : parameters_.dense()) {
    update_dense(p, lr, scale, step);
    p.gather(context_);
  }
}

// One pass over the flat buffer for every run of entries that agree on weight decay: a single one for adapters.
void Optimizer::update_replicated(double lr, double scale, Index step) {
  ReplicatedGroup& group = parameters_.replicated();
  const auto& entries = group.entries();
  for (std::size_t first = 0; first < entries.size();) {
    std::size_t end = first + 1;
    while (end < entries.size() && entries[end].decay == entries[first].decay) ++end;
    const Index offset = entries[first].offset;
    const Index count = (end < entries.size() ? entries[end].offset : group.count()) - offset;
    kernels::adamw(context_.device, {.weight = group.values().col_range(offset, count),
                                     .first_moment = group.first_moments().col_range(offset, count),
                                     .second_moment = group.second_moments().col_range(offset, count),
                                     .gradient = group.gradients().col_range(offset, count),
                                     .low_precision = {},
                                     .lr = static_cast<float>(lr),
                                     .beta1 = static_cast<float>(config_.beta1),
                                     .beta2 = static_cast<float>(config_.beta2),
                                     .eps = static_cast<float>(config_.eps),
                                     .weight_decay = entries[first].decay ? static_cast<float>(config_.weight_decay) : 0.0f,
                                     .gradient_scale = static_cast<float>(scale),
                                     .step = step});
    first = end;
  }
}

void Optimizer::update_dense(DenseParameter& p, double lr, double scale, Index step) {
  kernels::adamw(context_.device, {.weight = p.has_master() ? p.master_share() : p.value_share(),
                                   .first_moment = p.first_moment(),
                                   .second_moment = p.second_moment(),
                                   .gradient = p.gradient_share(),
                                   .low_precision = p.has_master() ? p.value_share() : Matrix{},
                                   .lr = static_cast<float>(lr),
                                   .beta1 = static_cast<float>(config_.beta1),
                                   .beta2 = static_cast<float>(config_.beta2),
                                   .eps = static_cast<float>(config_.eps),
                                   .weight_decay = p.info().decay ? static_cast<float>(config_.weight_decay) : 0.0f,
                                   .gradient_scale = static_cast<float>(scale),
                                   .step = step});
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
