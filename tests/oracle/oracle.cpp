#include "tests/oracle/oracle.hpp"

#include <stdexcept>

namespace lorashard::oracle {
namespace {

// What an adapter's matrix reads and writes: rows [first, first + count) of the fused weight's output.
struct OutputRange {
  Index first = 0, count = 0;
};
OutputRange output_range(const Shape& shape, Where where) {
  const Index c = shape.width;
  switch (where) {
    case Where::q: return {0, c};
    case Where::k: return {c, c};
    case Where::v: return {2 * c, c};
    case Where::qkv: return {0, 3 * c};
    case Where::up: return {0, shape.ffn};
    case Where::o: case Where::down: return {0, c};
  }
  throw std::invalid_argument("unknown matrix");
}

enum class Weight { qkv, o, up, down };
Weight weight_of(Where where) {
  switch (where) {
    case Where::o: return Weight::o;
    case Where::up: return Weight::up;
    case Where::down: return Weight::down;
    default: return Weight::qkv;
  }
}

const Array kNone;

// One evaluation: the model, its adapters, and the way a sharded linear layer with adapters works, undivided.
class Pass {
 public:
  Pass(const Model& model, const std::vector<Adapter>& adapters, const Batch& batch, const Options& options)
      : model_(model), adapters_(adapters), batch_(batch), options_(options) {}

  // Everything a block computes on its way, kept for the backward pass.
  struct Kept {
    Array x, normed1, qkv, mixed, middle, normed2, up, activated;
  };

  Array forward(std::vector<Kept>* kept) const {
    Array x = embedding(batch_.ids, batch_.length, model_.token, model_.position);
    for (Index layer = 0; layer < model_.shape.layers; ++layer) {
      Kept k = block_forward(layer, x);
      x = add(k.middle, adapted(layer, Weight::down, k.activated, model_.blocks[layer].down_weight,
                                model_.blocks[layer].down_bias));
      if (kept) kept->push_back(std::move(k));
    }
    return x;
  }

  const Array& head() const { return model_.shape.tied_head ? model_.token : model_.head; }
  Array normed(const Array& x) const {
    return layer_norm(x, model_.norm_weight, model_.norm_bias, model_.shape.norm_eps);
  }

  // dx: of the last block's output on entry, of the embedding's output on return.
  void backward(const std::vector<Kept>& kept, Array& dx, Gradients& g) const {
    for (Index layer = model_.shape.layers - 1; layer >= 0; --layer) block_backward(layer, kept[layer], dx, g);
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
    const double eps = model_.shape.norm_eps;
    Kept k;
    k.x = x;
    k.normed1 = layer_norm(x, b.norm1_weight, b.norm1_bias, eps);
    k.qkv = adapted(layer, Weight::qkv, k.normed1, b.qkv_weight, b.qkv_bias);
    k.mixed = attention(k.qkv, batch_.length, model_.shape.heads);
    k.middle = add(x, adapted(layer, Weight::o, k.mixed, b.o_weight, b.o_bias));
    k.normed2 = layer_norm(k.middle, b.norm2_weight, b.norm2_bias, eps);
    k.up = adapted(layer, Weight::up, k.normed2, b.up_weight, b.up_bias);
    k.activated = gelu(k.up);
    return k;
  }

  void block_backward(Index layer, const Kept& k, Array& dx, Gradients& g) const {
    const Block& b = model_.blocks[layer];
    Block& d = g.dense.blocks[layer];
    const double eps = model_.shape.norm_eps;
    const Index n = dx.rows;
    Array dactivated(n, model_.shape.ffn), dup = dactivated, dnormed(n, model_.shape.width), dmixed = dnormed;
    Array dqkv(n, 3 * model_.shape.width);

    adapted_backward(layer, Weight::down, k.activated, b.down_weight, dx, dactivated, d.down_weight, d.down_bias, g);
    gelu_backward(k.up, dactivated, dup);
    adapted_backward(layer, Weight::up, k.normed2, b.up_weight, dup, dnormed, d.up_weight, d.up_bias, g);
    layer_norm_backward(k.middle, b.norm2_weight, eps, dnormed, dx, d.norm2_weight, d.norm2_bias);

    adapted_backward(layer, Weight::o, k.mixed, b.o_weight, dx, dmixed, d.o_weight, d.o_bias, g);
    attention_backward(k.qkv, batch_.length, model_.shape.heads, dmixed, dqkv);
    dnormed = Array(n, model_.shape.width);
    adapted_backward(layer, Weight::qkv, k.normed1, b.qkv_weight, dqkv, dnormed, d.qkv_weight, d.qkv_bias, g);
    layer_norm_backward(k.x, b.norm1_weight, eps, dnormed, dx, d.norm1_weight, d.norm1_bias);
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
      const OutputRange range = output_range(model_.shape, adapter.where);
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
      const OutputRange range = output_range(model_.shape, adapter.where);
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
  const std::vector<Adapter>& adapters_;
  const Batch& batch_;
  const Options& options_;
};

}  // namespace

Array logits(const Model& model, const std::vector<Adapter>& adapters, const Batch& batch, const Options& options) {
  const Pass pass(model, adapters, batch, options);
  return linear(pass.normed(pass.forward(nullptr)), pass.head(), kNone);
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
  for (Named& n : named(g.adapters)) *n.array = Array(n.array->rows, n.array->cols);

  std::vector<Pass::Kept> kept;
  const Array x = pass.forward(&kept), normed = pass.normed(x);
  Array dlogits, dnormed(x.rows, x.cols), dx = dnormed, no_bias;
  g.loss = cross_entropy(linear(normed, pass.head(), kNone), batch.labels, options.label_smoothing, &dlogits);
  linear_backward(normed, pass.head(), dlogits, dnormed, model.shape.tied_head ? g.dense.token : g.dense.head, no_bias);
  layer_norm_backward(x, model.norm_weight, model.shape.norm_eps, dnormed, dx, g.dense.norm_weight, g.dense.norm_bias);
  pass.backward(kept, dx, g);
  return g;
}

}  // namespace lorashard::oracle
