#include "core/block.hpp"

#include "kernels/attention.hpp"

namespace lorashard::core {
namespace {

using kernels::text;
using kernels::WorkScope;

kernels::AttentionShape attention_shape(const Context& context, const Microbatch& microbatch) {
  const int t = context.tensor_size();
  return {microbatch.sequences, microbatch.length, context.shape.heads / t, context.shape.kv_heads / t,
          context.shape.head_size()};
}

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

Activation Block::norm_again(const Norm& norm, const Activation& x, const Microbatch& microbatch) const {
  const WorkScope work(context_.device.profile(), kernels::kAgain);
  return norm.forward(x, microbatch, nullptr);
}

Block::Block(const Context& context, Parameters& parameters, Index layer, bool input_gradient)
    : context_(context),
      name_(text("layers.", layer)),
      norm1_(context, parameters, text("layers.", layer, ".norm1")),
      qkv_(context, parameters, Linear::Kind::column, layer, text("layers.", layer, ".attention.qkv")),
      o_(context, parameters, Linear::Kind::row, layer, text("layers.", layer, ".attention.o")),
      norm2_(context, parameters, text("layers.", layer, ".norm2")),
      up_(context, parameters, Linear::Kind::column, layer, text("layers.", layer, ".mlp.up")),
      down_(context, parameters, Linear::Kind::row, layer, text("layers.", layer, ".mlp.down")) {
  needs_.input = input_gradient;
  needs_.norm1_output = needs_.input || norm1_.trains();
  needs_.qkv_output = needs_.norm1_output || qkv_.trains();
  needs_.o_output = needs_.qkv_output || o_.trains();
  needs_.middle = needs_.o_output;
  needs_.norm2_output = needs_.middle || norm2_.trains();
  needs_.up_output = needs_.norm2_output || up_.trains();
  needs_.down_output = needs_.up_output || down_.trains();
}

bool Block::trains_inside() const {
  return norm1_.trains() || qkv_.trains() || o_.trains() || norm2_.trains() || up_.trains() || down_.trains();
}

// Selective recompute leaves out what can be made again from something that is kept anyway.
Block::Keep Block::what_to_keep() const {
  const bool selective = context_.recompute == Recompute::selective;
  Keep keep;
  keep.x = needs_.norm1_output;
  keep.h = qkv_.needs_input() && !(selective && keep.x);
  keep.attention = needs_.qkv_output;
  keep.attended = needs_.qkv_output || o_.needs_input();
  keep.x2 = needs_.norm2_output;
  keep.h2 = up_.needs_input() && !(selective && keep.x2);
  keep.up = needs_.up_output;
  keep.active = down_.needs_input() && !(selective && keep.up);
  return keep;
}

Activation Block::attend(const Activation& qkv, const Microbatch& microbatch, Tensor* log_sum) const {
  const auto shape = attention_shape(context_, microbatch);
  const Fused<ConstMatrix> in(shape, qkv.data);
  Tensor out(context_.device, ActivationKind::attention, context_.activation, shape.rows(), shape.heads * shape.head_size);
  if (log_sum) *log_sum = Tensor(context_.device, ActivationKind::attention, DType::f32, shape.heads, shape.rows());
  kernels::attention(context_.device, kernels::AttentionForward{shape, in.q, in.k, in.v, out,
                                                                log_sum ? log_sum->view() : Matrix{}});
  context_.look(name_, ".attention", out, microbatch, 0);
  return {std::move(out), dist::ParallelState::cut};
}

Activation Block::attention_branch(const Activation& x, const Microbatch& microbatch, BlockSaved* saved,
                                   const Keep& keep) const {
  Activation h = norm1_.forward(x, microbatch, keep.x ? &saved->statistics1 : nullptr);
  Activation qkv = qkv_.forward(h, microbatch, qkv_.needs_input() && saved ? &saved->u_qkv : nullptr);
  if (keep.h) saved->h = std::move(h);
  h.data.reset();
  Activation attended = attend(qkv, microbatch, keep.attention ? &saved->log_sum : nullptr);
  if (keep.attention) saved->qkv = std::move(qkv);
  qkv.data.reset();
  Activation x2 = o_.forward(attended, x, microbatch, o_.needs_input() && saved ? &saved->u_o : nullptr);
  if (keep.attended) saved->attended = std::move(attended);
  return x2;
}

// norm2, up and GELU; what enters the down product.
Activation Block::mlp_inner(const Activation& x2, const Microbatch& microbatch, BlockSaved* saved, const Keep& keep) const {
  Activation h2 = norm2_.forward(x2, microbatch, keep.x2 ? &saved->statistics2 : nullptr);
  const Linear::Gelu gelu{keep.up ? &saved->up.data : nullptr};
  Activation active = up_.forward(h2, microbatch, up_.needs_input() && saved ? &saved->u_up : nullptr, gelu);
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
    active = {Tensor(context_.device, ActivationKind::mlp, context_.activation, saved.up.data.rows(), saved.up.data.cols()),
              dist::ParallelState::cut};
    kernels::gelu(context_.device, saved.up.data, active.data);
  }
  Activation d = down_.backward({active, saved.u_down, dy, needs_.up_output, &saved.up.data}, microbatch);
  active.data.reset();
  saved.u_down.reset();
  if (!needs_.up_output) return;
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
  const auto shape = attention_shape(context_, microbatch);
  Activation dqkv{Tensor(context_.device, ActivationKind::gradient, context_.activation, saved.qkv.data.rows(),
                         saved.qkv.data.cols()),
                  dist::ParallelState::cut};
  const Fused<ConstMatrix> in(shape, saved.qkv.data);
  const Fused<Matrix> out(shape, dqkv.data);
  kernels::attention(context_.device, kernels::AttentionBackward{shape, in.q, in.k, in.v, saved.attended.data, saved.log_sum,
                                                                 d.data, out.q, out.k, out.v});
  context_.look(name_, ".attention.qkv", dqkv.data, microbatch, 0);
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
