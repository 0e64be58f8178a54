// Longer than most: a block's forward pass, what of it is made again, and its backward pass mirror each other, and are read
// side by side.
#include "core/block.hpp"

#include "core/key_value_cache.hpp"
#include "kernels/elementwise.hpp"

namespace lorashard::core {
namespace {

using kernels::text;
using kernels::WorkScope;

// The q, k and v columns of a fused (M, (H + 2 G) D) matrix.
template <class View>
struct Fused {
  View q, k, v;
  Fused(const kernels::AttentionShape& s, View all)
      : q(all.col_range(0, s.heads * s.head_size)),
        k(all.col_range(s.heads * s.head_size, s.kv_heads * s.head_size)),
        v(all.col_range((s.heads + s.kv_heads) * s.head_size, s.kv_heads * s.head_size)) {}
};

}  // namespace

kernels::AttentionShape heads_of(const Context& context) {
  const ModelShape& model = context.shape;
  const Index t = context.tensor_size(), rank = context.tensor_rank();
  kernels::AttentionShape shape;
  shape.heads = model.heads / t;
  shape.group = model.heads / model.kv_heads;
  shape.skew = rank * shape.heads % shape.group;
  shape.kv_heads = (shape.skew + shape.heads + shape.group - 1) / shape.group;
  shape.head_size = model.head_size();
  shape.window = model.window;
  return shape;
}

Activation Block::norm_again(const Norm& norm, const Activation& x, const Microbatch& microbatch) const {
  const WorkScope work(context_.device.profile(), kernels::kAgain);
  return norm.forward(x, microbatch, nullptr);
}

Block::Block(const Context& context, Parameters& parameters, Index layer, bool input_gradient,
             const RotaryPositions* positions)
    : context_(context),
      family_(family_of(context.shape)),
      layer_(layer),
      name_(text("layers.", layer)),
      positions_(positions),
      norm1_(context, parameters, text("layers.", layer, ".norm1")),
      qkv_(context, parameters, Linear::Kind::column, layer, text("layers.", layer, ".attention.qkv")),
      o_(context, parameters, Linear::Kind::row, layer, text("layers.", layer, ".attention.o")),
      heads_(heads_of(context)),
      norm2_(context, parameters, text("layers.", layer, ".norm2")),
      up_(context, parameters, Linear::Kind::column, layer,
          text("layers.", layer, family_.gated ? ".mlp.gate_up" : ".mlp.up")),
      down_(context, parameters, Linear::Kind::row, layer, text("layers.", layer, ".mlp.down")) {
  if (context.shape.qk_norm) {
    q_norm_.emplace(context, parameters, name_ + ".attention.q_norm.weight");
    k_norm_.emplace(context, parameters, name_ + ".attention.k_norm.weight");
  }
  needs_.input = input_gradient;
  needs_.norm1_output = needs_.input || norm1_.trains();
  const bool head_norms_train = q_norm_ && (q_norm_->trains() || k_norm_->trains());
  needs_.qkv_output = needs_.norm1_output || qkv_.trains() || head_norms_train;
  needs_.o_output = needs_.qkv_output || o_.trains();
  needs_.middle = needs_.o_output;
  needs_.norm2_output = needs_.middle || norm2_.trains();
  needs_.up_output = needs_.norm2_output || up_.trains();
  needs_.down_output = needs_.up_output || down_.trains();
}

void Block::attach_adapters(Parameters& parameters) {
  for (Linear* linear : {&qkv_, &o_, &up_, &down_}) linear->attach_adapters(parameters);
}

bool Block::trains_inside() const {
  return norm1_.trains() || qkv_.trains() || (q_norm_ && (q_norm_->trains() || k_norm_->trains())) || o_.trains() || norm2_.trains() || up_.trains() || down_.trains();
}

// Selective recompute leaves out what can be made again from something that is kept anyway.
Block::Keep Block::what_to_keep() const {
  const bool selective = context_.recompute == Recompute::selective;
  Keep keep;
  keep.x = needs_.norm1_output;
  keep.h = qkv_.needs_input() && !(selective && keep.x);
  keep.attention = needs_.qkv_output;
  keep.raw_heads = keep.attention && q_norm_ && selective;
  keep.attended = needs_.qkv_output || o_.needs_input();
  keep.x2 = needs_.norm2_output;
  keep.h2 = up_.needs_input() && !(selective && keep.x2);
  keep.up = needs_.up_output;
  keep.active = down_.needs_input() && !(selective && keep.up);
  return keep;
}

kernels::AttentionShape Block::attention_shape(const Microbatch& microbatch) const {
  kernels::AttentionShape shape = heads_;
  shape.batch = microbatch.sequences;
  shape.length = microbatch.length;
  return shape;
}

// Queries and keys as they enter attention: normed, then turned.
void Block::prepare_heads(Matrix qkv, const Microbatch& microbatch, BlockSaved* saved) const {
  const Matrix qk = queries_and_keys(qkv);
  if (q_norm_) {
    if (saved) {
      saved->qk = Tensor(context_.device, ActivationKind::attention, context_.activation, qk.rows, qk.cols);
      kernels::copy(context_.device, qk, saved->qk);
    }
    const Index queries = heads_.heads * heads_.head_size;
    const Matrix q = qk.col_range(0, queries), k = qk.col_range(queries, qk.cols - queries);
    q_norm_->forward(q, q, saved ? &saved->statistics_q : nullptr);
    k_norm_->forward(k, k, saved ? &saved->statistics_k : nullptr);
  }
  if (positions_) positions_->turn(qk, microbatch, false);
}

// Queries and keys as they were before their norm, which is made again: one copy for both instead of two.
void Block::restore_raw_heads(Matrix qkv, BlockSaved& saved) const {
  kernels::copy(context_.device, saved.qk, queries_and_keys(qkv));
  saved.qk.reset();
  saved.statistics_q.reset();
  saved.statistics_k.reset();
}

void Block::backward_through_heads(Matrix dqkv, const Microbatch& microbatch, BlockSaved& saved) const {
  const Matrix d = queries_and_keys(dqkv);
  if (positions_) positions_->turn(d, microbatch, true);
  if (!q_norm_) return;
  const Index queries = heads_.heads * heads_.head_size, keys = d.cols - queries;
  const ConstMatrix qk = saved.qk;
  q_norm_->backward(qk.col_range(0, queries), saved.statistics_q, d.col_range(0, queries));
  k_norm_->backward(qk.col_range(queries, keys), saved.statistics_k, d.col_range(queries, keys));
  saved.qk.reset();
  saved.statistics_q.reset();
  saved.statistics_k.reset();
}

Activation Block::attend(const Activation& qkv, const Microbatch& microbatch, Tensor* log_sum) const {
  const auto shape = attention_shape(microbatch);
  const Fused<ConstMatrix> in(shape, qkv.data);
  Tensor out(context_.device, ActivationKind::attention, context_.activation, shape.rows(), shape.heads * shape.head_size);
  if (microbatch.cache) microbatch.cache->keep(layer_, in.k, in.v);
  if (microbatch.cache && microbatch.cache->stepping()) {
    attend_to_cache(in.q, microbatch, out);
    return {std::move(out), dist::ParallelState::cut};
  }
  if (log_sum) *log_sum = Tensor(context_.device, ActivationKind::attention, DType::f32, shape.heads, shape.rows());
  kernels::attention(context_.device, kernels::AttentionForward{shape, in.q, in.k, in.v, out,
                                                                log_sum ? log_sum->view() : Matrix{}});
  context_.look(name_, ".attention", out, microbatch, 0);
  return {std::move(out), dist::ParallelState::cut};
}

// One row for each sequence of the cache.
void Block::attend_to_cache(ConstMatrix q, const Microbatch& microbatch, Matrix out) const {
  const KeyValueCache& cache = *microbatch.cache;
  kernels::AttentionShape shape = heads_;
  shape.batch = cache.sequences();
  shape.length = cache.capacity();
  kernels::attention(context_.device, kernels::AttentionStep{shape, q, cache.keys(layer_), cache.values(layer_),
                                                             cache.lengths(), out});
}

Activation Block::attention_branch(const Activation& x, const Microbatch& microbatch, BlockSaved* saved,
                                   const Keep& keep) const {
  Activation h = norm1_.forward(x, microbatch, keep.x ? &saved->statistics1 : nullptr);
  Activation qkv = qkv_.forward(h, microbatch, qkv_.needs_input() && saved ? &saved->u_qkv : nullptr);
  if (keep.h) saved->h = std::move(h);
  h.data.reset();
  prepare_heads(qkv.data, microbatch, keep.attention ? saved : nullptr);
  Activation attended = attend(qkv, microbatch, keep.attention ? &saved->log_sum : nullptr);
  if (keep.raw_heads) restore_raw_heads(qkv.data, *saved);
  if (keep.attention) saved->qkv = std::move(qkv);
  qkv.data.reset();
  Activation x2 = o_.forward(attended, x, microbatch, o_.needs_input() && saved ? &saved->u_o : nullptr);
  if (keep.attended) saved->attended = std::move(attended);
  return x2;
}

// active = silu(gate) * up, or gelu(up).
void Block::activate(const Activation& up, Activation& active) const {
  const Index cols = family_.gated ? up.data.cols() / 2 : up.data.cols();
  active = {Tensor(context_.device, ActivationKind::mlp, context_.activation, up.data.rows(), cols), dist::ParallelState::cut};
  if (family_.gated) {
    kernels::swiglu(context_.device, up.data, active.data);
  } else {
    kernels::gelu(context_.device, up.data, active.data);
  }
}

// norm2, up and its activation; what enters the down product.
Activation Block::mlp_inner(const Activation& x2, const Microbatch& microbatch, BlockSaved* saved, const Keep& keep) const {
  Activation h2 = norm2_.forward(x2, microbatch, keep.x2 ? &saved->statistics2 : nullptr);
  Tensor* const u = up_.needs_input() && saved ? &saved->u_up : nullptr;
  Activation active;
  if (family_.gated) {
    Activation up = up_.forward(h2, microbatch, u);
    if (keep.h2) saved->h2 = std::move(h2);
    h2.data.reset();
    activate(up, active);
    if (keep.up) saved->up = std::move(up);
    return active;
  }
  const Linear::Gelu gelu{keep.up ? &saved->up.data : nullptr};
  active = up_.forward(h2, microbatch, u, gelu);
  if (keep.up) saved->up.state = active.state;
  if (keep.h2) saved->h2 = std::move(h2);
  return active;
}

Activation Block::forward(Activation x, const Microbatch& microbatch, BlockSaved* saved) const {
  if (!has_backward()) saved = nullptr;
  const bool again = context_.recompute == Recompute::full;
  BlockSaved* inner = again ? nullptr : saved;
  const Keep keep = inner ? what_to_keep() : Keep{};

  Activation x2 = attention_branch(x, microbatch, inner, keep);
  if (saved && (keep.x || again)) saved->x = std::move(x);
  x.data.reset();

  Activation active = mlp_inner(x2, microbatch, inner, keep);
  Activation y = down_.forward(active, x2, microbatch, down_.needs_input() && inner ? &inner->u_down : nullptr);
  if (keep.active) inner->active = std::move(active);
  if (keep.x2) inner->x2 = std::move(x2);
  return y;
}

void Block::forward_again(const Microbatch& microbatch, BlockSaved& saved) const {
  const WorkScope work(context_.device.profile(), kernels::kAgain);
  const Keep keep = what_to_keep();
  Activation x2 = attention_branch(saved.x, microbatch, &saved, keep);
  if (!keep.x) saved.x.data.reset();
  Activation active = mlp_inner(x2, microbatch, &saved, keep);
  // The adapter of down needs A's product; its output, the block's, nobody needs.
  if (down_.needs_input()) down_.project_again(active, microbatch, &saved.u_down);
  if (keep.active) saved.active = std::move(active);
  if (keep.x2) saved.x2 = std::move(x2);
}

void Block::backward_mlp(Activation& dy, const Microbatch& microbatch, BlockSaved& saved) const {
  Activation active = std::move(saved.active);
  if (down_.needs_input() && active.data.none()) {
    const WorkScope work(context_.device.profile(), kernels::kAgain);
    activate(saved.up, active);
  }
  Activation d = down_.backward({active, saved.u_down, dy, needs_.up_output, family_.gated ? nullptr : &saved.up.data},
                                microbatch);
  active.data.reset();
  saved.u_down.reset();
  if (!needs_.up_output) return;
  if (family_.gated) {  // in the place of gate and up
    kernels::swiglu_backward(context_.device, saved.up.data, d.data, saved.up.data);
    d = std::move(saved.up);
  }
  saved.up.data.reset();

  Activation h2 = std::move(saved.h2);
  if (up_.needs_input() && h2.data.none()) h2 = norm_again(norm2_, saved.x2, microbatch);
  d = up_.backward({h2, saved.u_up, d, needs_.norm2_output}, microbatch);
  saved.u_up.reset();
  if (needs_.norm2_output) norm2_.backward(saved.x2, saved.statistics2, d, microbatch, dy.data);
}

void Block::backward_attention(Activation& dy, const Microbatch& microbatch, BlockSaved& saved) const {
  Activation d = o_.backward({saved.attended, saved.u_o, dy, needs_.qkv_output}, microbatch);
  if (!needs_.qkv_output) return;
  if (q_norm_ && saved.qk.none()) {
    const WorkScope work(context_.device.profile(), kernels::kAgain);
    prepare_heads(saved.qkv.data, microbatch, &saved);
  }
  const auto shape = attention_shape(microbatch);
  Activation dqkv{Tensor(context_.device, ActivationKind::gradient, context_.activation, saved.qkv.data.rows(),
                         saved.qkv.data.cols()),
                  dist::ParallelState::cut};
  const Fused<ConstMatrix> in(shape, saved.qkv.data);
  const Fused<Matrix> out(shape, dqkv.data);
  kernels::attention(context_.device, kernels::AttentionBackward{shape, in.q, in.k, in.v, saved.attended.data, saved.log_sum,
                                                                 d.data, out.q, out.k, out.v});
  context_.look(name_, ".attention.qkv", dqkv.data, microbatch, 0);
  backward_through_heads(dqkv.data, microbatch, saved);
  d.data.reset();
  saved.qkv.data.reset();
  saved.attended.data.reset();

  Activation h = std::move(saved.h);
  if (qkv_.needs_input() && h.data.none()) h = norm_again(norm1_, saved.x, microbatch);
  d = qkv_.backward({h, saved.u_qkv, dqkv, needs_.norm1_output}, microbatch);
  if (needs_.norm1_output) norm1_.backward(saved.x, saved.statistics1, d, microbatch, dy.data);
}

Activation Block::backward(Activation dy, const Microbatch& microbatch, BlockSaved saved) const {
  if (context_.recompute == Recompute::full) forward_again(microbatch, saved);
  backward_mlp(dy, microbatch, saved);
  saved.x2.data.reset();
  if (needs_.middle) backward_attention(dy, microbatch, saved);
  if (!needs_.input) return {};
  return dy;
}

}  // namespace lorashard::core
