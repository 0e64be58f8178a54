// Extents and names of the oracle's tensors, and random values for them.
#include <random>
#include <stdexcept>

#include "tests/oracle/oracle.hpp"

namespace lorashard::oracle {
namespace {

std::string layer_name(Index layer, const std::string& rest) { return "layers." + std::to_string(layer) + "." + rest; }

}  // namespace

std::vector<Named> named(Model& m) {
  const std::string up = m.shape.llama() ? "mlp.gate_up" : "mlp.up";
  std::vector<Named> list;
  const auto keep = [&](const std::string& name, Array& array) {
    if (!array.empty()) list.push_back({name, &array});
  };
  keep("embedding.token", m.token), keep("embedding.position", m.position);
  for (std::size_t i = 0; i < m.blocks.size(); ++i) {
    Block& b = m.blocks[i];
    const auto add = [&](const std::string& rest, Array& array) { keep(layer_name(i, rest), array); };
    add("norm1.weight", b.norm1_weight), add("norm1.bias", b.norm1_bias);
    add("attention.qkv.weight", b.qkv_weight), add("attention.qkv.bias", b.qkv_bias);
    add("attention.q_norm.weight", b.q_norm_weight), add("attention.k_norm.weight", b.k_norm_weight);
    add("attention.o.weight", b.o_weight), add("attention.o.bias", b.o_bias);
    add("norm2.weight", b.norm2_weight), add("norm2.bias", b.norm2_bias);
    add(up + ".weight", b.up_weight), add(up + ".bias", b.up_bias);
    add("mlp.down.weight", b.down_weight), add("mlp.down.bias", b.down_bias);
  }
  keep("final_norm.weight", m.norm_weight), keep("final_norm.bias", m.norm_bias);
  keep("head.weight", m.head);
  return list;
}

std::string name_of(Index layer, Where where, const std::string& family) {
  switch (where) {
    case Where::q: return layer_name(layer, "attention.qkv.q");
    case Where::k: return layer_name(layer, "attention.qkv.k");
    case Where::v: return layer_name(layer, "attention.qkv.v");
    case Where::qkv: return layer_name(layer, "attention.qkv");
    case Where::o: return layer_name(layer, "attention.o");
    case Where::up: return layer_name(layer, family == "llama" ? "mlp.gate_up.up" : "mlp.up");
    case Where::gate: return layer_name(layer, "mlp.gate_up.gate");
    case Where::down: return layer_name(layer, "mlp.down");
  }
  return {};
}

std::vector<Named> named(std::vector<Adapter>& adapters, const std::string& family) {
  std::vector<Named> list;
  for (Adapter& adapter : adapters) {
    const std::string name = name_of(adapter.layer, adapter.where, family);
    list.push_back({name + ".lora_a", &adapter.a});
    list.push_back({name + ".lora_b", &adapter.b});
  }
  return list;
}

Model zeros(const Shape& s) {
  if (s.family != "gpt2" && s.family != "llama") throw std::invalid_argument("unknown family " + s.family);
  Model m;
  m.shape = s;
  m.token = Array(s.vocab, s.width);
  m.norm_weight = Array(1, s.width);
  if (!s.tied_head) m.head = Array(s.vocab, s.width);
  Block b;
  b.norm1_weight = b.norm2_weight = Array(1, s.width);
  b.qkv_weight = Array(s.qkv_width(), s.width);
  b.o_weight = Array(s.width, s.q_width());
  b.up_weight = Array(s.up_width(), s.width);
  b.down_weight = Array(s.width, s.ffn);
  if (s.llama()) {
    if (s.qkv_bias) b.qkv_bias = Array(1, s.qkv_width());
    if (s.qk_norm) b.q_norm_weight = b.k_norm_weight = Array(1, s.d());
  } else {
    m.position = Array(s.context, s.width);
    m.norm_bias = b.norm1_bias = b.norm2_bias = b.o_bias = b.down_bias = Array(1, s.width);
    b.qkv_bias = Array(1, s.qkv_width());
    b.up_bias = Array(1, s.ffn);
  }
  m.blocks.assign(s.layers, b);
  return m;
}

Model random_model(const Shape& shape, unsigned seed) {
  Model m = zeros(shape);
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  for (const Named& n : named(m)) {
    const bool vector = n.array->rows == 1, weight = n.name.ends_with(".weight");
    const bool norm_weight = vector && weight;  // the only vectors of that name
    const double scale = norm_weight ? 0.1 : vector ? 0.05 : 0.12;
    for (double& x : n.array->values) x = static_cast<float>((norm_weight ? 1.0 : 0.0) + scale * normal(engine));
  }
  return m;
}

}  // namespace lorashard::oracle
