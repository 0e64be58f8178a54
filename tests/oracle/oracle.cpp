#include "tests/oracle/oracle.hpp"

#include <stdexcept>

#include "tests/oracle/attention.hpp"
#include "tests/oracle/operations.hpp"

namespace lorashard::oracle {
namespace {

// What an adapter's matrix reads and writes: rows [first, first + count) of the fused weight's output.
struct OutputRange {
  Index first = 0, count = 0;
};
OutputRange output_range(const Shape& shape, Where where) {
  const Index q = shape.q_width(), kv = shape.kv_width(), ffn = shape.ffn;
  switch (where) {
    case Where::q: return {0, q};
    case Where::k: return {q, kv};
    case Where::v: return {q + kv, kv};
    case Where::qkv: return {0, q + 2 * kv};
    case Where::gate: return {0, ffn};
    case Where::up: return {shape.llama() ? ffn : 0, ffn};
    case Where::o: case Where::down: return {0, shape.width};
  }
  throw std::invalid_argument("unknown matrix");
}

enum class Weight { qkv, o, up, down };
Weight weight_of(Where where) {
  switch (where) {
    case Where::o: return Weight::o;
    case Where::up: case Where::gate: return Weight::up;
    case Where::down: return Weight::down;
    default: return Weight::qkv;
  }
}

const Array kNone;

// One evaluation: the model, its adapters, and the way a sharded linear layer with adapters works, undivided.
class Pass {
 public:
  Pass(const Model& model, const std::vector<Adapter>& adapters, const Batch& batch, const Options& options)
      : model_(model),
        shape_(model.shape),
        attention_{batch.length, model.shape.d(), model.shape.window},
        positions_{model.shape.rope_frequencies, model.shape.rope_magnitude, model.shape.rope_neighbours},
        adapters_(adapters),
        batch_(batch),
        options_(options) {
    if (positions_.frequencies.empty()) positions_.frequencies = rotary_frequencies(shape_.rope_theta, shape_.d());
    if (shape_.llama() && 2 * static_cast<Index>(positions_.frequencies.size()) != shape_.d())
      throw std::invalid_argument("not one frequency for two columns of a head");
    for (const Adapter& adapter : adapters)
      if (adapter.where == Where::gate && !shape_.llama()) throw std::invalid_argument("GPT-2 has no gate");
  }

  // Everything a block computes on its way, kept for the backward pass.
  struct Kept {
    Array x, normed1, qkv, q, k, v, mixed, middle, normed2, up, activated;
  };

  Array forward(std::vector<Kept>* kept) const {
    Array x = embedding(batch_.ids, batch_.length, model_.token, model_.position);
    for (Index layer = 0; layer < shape_.layers; ++layer) {
      Kept k = block_forward(layer, x);
      x = add(k.middle, adapted(layer, Weight::down, k.activated, model_.blocks[layer].down_weight,
                                model_.blocks[layer].down_bias));
      if (kept) kept->push_back(std::move(k));
    }
    return x;
  }

  const Array& head() const { return shape_.tied_head ? model_.token : model_.head; }

  Array norm(const Array& x, const Array& weight, const Array& bias) const {
    return shape_.llama() ? rms_norm(x, weight, shape_.norm_eps) : layer_norm(x, weight, bias, shape_.norm_eps);
  }
  void norm_backward(const Array& x, const Array& weight, const Array& dy, Array& dx, Array& dweight,
                     Array& dbias) const {
    shape_.llama() ? rms_norm_backward(x, weight, shape_.norm_eps, dy, dx, dweight)
                   : layer_norm_backward(x, weight, shape_.norm_eps, dy, dx, dweight, dbias);
  }

  // dx: of the last block's output on entry, of the embedding's output on return.
  void backward(const std::vector<Kept>& kept, Array& dx, Gradients& g) const {
    for (Index layer = shape_.layers - 1; layer >= 0; --layer) block_backward(layer, kept[layer], dx, g);
    embedding_backward(batch_.ids, batch_.length, dx, g.dense.token, g.dense.position);
  }

 private:
  static Array add(const Array& a, const Array& b) {
    Array sum = a;
    for (std::size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += b.values[i];
    return sum;
  }

  Kept block_forward(Index layer, const Array& x) const {
    const Block& b = model_.blocks[layer];
    Kept k;
    k.x = x;
    k.normed1 = norm(x, b.norm1_weight, b.norm1_bias);
    k.qkv = adapted(layer, Weight::qkv, k.normed1, b.qkv_weight, b.qkv_bias);
    k.q = placed(queries(k.qkv), b.q_norm_weight);
    k.k = placed(keys(k.qkv), b.k_norm_weight);
    k.v = values(k.qkv);
    k.mixed = attention(k.q, k.k, k.v, attention_);
    k.middle = add(x, adapted(layer, Weight::o, k.mixed, b.o_weight, b.o_bias));
    k.normed2 = norm(k.middle, b.norm2_weight, b.norm2_bias);
    k.up = adapted(layer, Weight::up, k.normed2, b.up_weight, b.up_bias);
    k.activated = shape_.llama() ? swiglu(k.up) : gelu(k.up);
    return k;
  }

  void block_backward(Index layer, const Kept& k, Array& dx, Gradients& g) const {
    const Block& b = model_.blocks[layer];
    Block& d = g.dense.blocks[layer];
    const Index n = dx.rows;
    Array dactivated(n, shape_.ffn), dup(n, shape_.up_width()), dnormed(n, shape_.width), dmixed(n, shape_.q_width());
    Array dq = dmixed, dk(n, shape_.kv_width()), dv = dk, dqkv(n, shape_.qkv_width());

    adapted_backward(layer, Weight::down, k.activated, b.down_weight, dx, dactivated, d.down_weight, d.down_bias, g);
    shape_.llama() ? swiglu_backward(k.up, dactivated, dup) : gelu_backward(k.up, dactivated, dup);
    adapted_backward(layer, Weight::up, k.normed2, b.up_weight, dup, dnormed, d.up_weight, d.up_bias, g);
    norm_backward(k.middle, b.norm2_weight, dnormed, dx, d.norm2_weight, d.norm2_bias);

    adapted_backward(layer, Weight::o, k.mixed, b.o_weight, dx, dmixed, d.o_weight, d.o_bias, g);
    attention_backward(k.q, k.k, k.v, attention_, dmixed, dq, dk, dv);
    add_to_columns(placed_backward(queries(k.qkv), b.q_norm_weight, dq, d.q_norm_weight), 0, dqkv);
    add_to_columns(placed_backward(keys(k.qkv), b.k_norm_weight, dk, d.k_norm_weight), shape_.q_width(), dqkv);
    add_to_columns(dv, shape_.q_width() + shape_.kv_width(), dqkv);
    dnormed = Array(n, shape_.width);
    adapted_backward(layer, Weight::qkv, k.normed1, b.qkv_weight, dqkv, dnormed, d.qkv_weight, d.qkv_bias, g);
    norm_backward(k.x, b.norm1_weight, dnormed, dx, d.norm1_weight, d.norm1_bias);
  }

  Array queries(const Array& qkv) const { return columns_of(qkv, 0, shape_.q_width()); }
  Array keys(const Array& qkv) const { return columns_of(qkv, shape_.q_width(), shape_.kv_width()); }
  Array values(const Array& qkv) const {
    return columns_of(qkv, shape_.q_width() + shape_.kv_width(), shape_.kv_width());
  }

  // Queries or keys as attention meets them: each head normalised, where the model has weights for that, and turned to
  // its position. GPT-2's are met as they are.
  Array placed(const Array& x, const Array& head_norm) const {
    if (!shape_.llama()) return x;
    return rotary(head_norm.empty() ? x : rms_norm(x, head_norm, shape_.norm_eps), positions_, batch_.length);
  }
  Array placed_backward(const Array& x, const Array& head_norm, const Array& dy, Array& dhead_norm) const {
    if (!shape_.llama()) return dy;
    Array dturned(x.rows, x.cols), dx = dturned;
    rotary_backward(positions_, batch_.length, dy, dturned);
    if (head_norm.empty()) return dturned;
    rms_norm_backward(x, head_norm, shape_.norm_eps, dturned, dx, dhead_norm);
    return dx;
  }

  Array dropped(const Adapter& adapter, Array x) const {
    if (options_.dropout)
      for (Index n = 0; n < x.rows; ++n)
        for (Index i = 0; i < x.cols; ++i) x(n, i) *= options_.dropout(adapter, n, i);
    return x;
  }

  // y = x w^T + b + sum over the adapters on this weight of scale * (dropped(x) A^T) B^T in their output columns.
  Array adapted(Index layer, Weight weight, const Array& x, const Array& w, const Array& b) const {
    Array y = linear(x, w, b);
    for (const Adapter& adapter : adapters_) {
      if (adapter.layer != layer || weight_of(adapter.where) != weight) continue;
      const OutputRange range = output_range(shape_, adapter.where);
      const Array change = linear(linear(dropped(adapter, x), adapter.a, kNone), adapter.b, kNone);
      for (Index n = 0; n < y.rows; ++n)
        for (Index o = 0; o < range.count; ++o) y(n, range.first + o) += adapter.scale() * change(n, o);
    }
    return y;
  }

  void adapted_backward(Index layer, Weight weight, const Array& x, const Array& w, const Array& dy, Array& dx,
                        Array& dw, Array& db, Gradients& g) const {
    linear_backward(x, w, dy, dx, dw, db);
    Array no_bias;
    for (std::size_t a = 0; a < adapters_.size(); ++a) {
      const Adapter& adapter = adapters_[a];
      if (adapter.layer != layer || weight_of(adapter.where) != weight) continue;
      const OutputRange range = output_range(shape_, adapter.where);
      const Array input = dropped(adapter, x), u = linear(input, adapter.a, kNone);
      Array dchange(dy.rows, range.count), du(u.rows, u.cols), dinput(x.rows, x.cols);
      for (Index n = 0; n < dy.rows; ++n)
        for (Index o = 0; o < range.count; ++o) dchange(n, o) = adapter.scale() * dy(n, range.first + o);
      linear_backward(u, adapter.b, dchange, du, g.adapters[a].b, no_bias);
      linear_backward(input, adapter.a, du, dinput, g.adapters[a].a, no_bias);
      dx = add(dx, dropped(adapter, dinput));
    }
  }

  const Model& model_;
  const Shape& shape_;
  const AttentionShape attention_;
  Rotary positions_;
  const std::vector<Adapter>& adapters_;
  const Batch& batch_;
  const Options& options_;
};

}  // namespace

Array logits(const Model& model, const std::vector<Adapter>& adapters, const Batch& batch, const Options& options) {
  const Pass pass(model, adapters, batch, options);
  const Array x = pass.forward(nullptr);
  return linear(pass.norm(x, model.norm_weight, model.norm_bias), pass.head(), kNone);
}

double loss(const Model& model, const std::vector<Adapter>& adapters, const Batch& batch, const Options& options) {
  return cross_entropy(logits(model, adapters, batch, options), batch.labels, options.label_smoothing, nullptr);
}

Gradients gradients(const Model& model, const std::vector<Adapter>& adapters, const Batch& batch,
                    const Options& options) {
  const Pass pass(model, adapters, batch, options);
  Gradients g;
  g.dense = zeros(model.shape);
  g.adapters = adapters;
  for (Named& n : named(g.adapters, model.shape.family)) *n.array = Array(n.array->rows, n.array->cols);

  std::vector<Pass::Kept> kept;
  const Array x = pass.forward(&kept), normed = pass.norm(x, model.norm_weight, model.norm_bias);
  Array dlogits, dnormed(x.rows, x.cols), dx = dnormed, no_bias;
  g.loss = cross_entropy(linear(normed, pass.head(), kNone), batch.labels, options.label_smoothing, &dlogits);
  linear_backward(normed, pass.head(), dlogits, dnormed, model.shape.tied_head ? g.dense.token : g.dense.head, no_bias);
  pass.norm_backward(x, model.norm_weight, dnormed, dx, g.dense.norm_weight, g.dense.norm_bias);
  pass.backward(kept, dx, g);
  return g;
}

}  // namespace lorashard::oracle
