// The oracle: a transformer of the GPT-2 or the Llama family with LoRA, its loss and every gradient, in plain double
// loops on one thread. It shares no code with kernels/ or core/ and is itself proved against ../shared/golden
// (tests/core/test_oracle.cpp). Letters: V vocabulary, C width, H heads, G key/value heads, D head size, F feed-forward
// width. Names of tensors are those of the program's tensor table, so that both sides can be matched by name.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/oracle/array.hpp"

namespace lorashard::oracle {

struct Shape {
  Index layers = 0, width = 0, heads = 0, ffn = 0, vocab = 0, context = 0;
  bool tied_head = true;
  double norm_eps = 1e-5;
  // "gpt2": layer norms, learned positions, GELU, biases everywhere. "llama": RMS norms, rotary positions, SwiGLU, and
  // what follows here; it has no bias but qkv's, if any.
  std::string family = "gpt2";
  Index kv_heads = 0;   // 0: as many as heads
  Index head_size = 0;  // 0: width / heads
  bool qkv_bias = false, qk_norm = false;
  Index window = 0;  // query t sees keys t - window < s <= t; 0: all s <= t
  double rope_theta = 10000;
  bool rope_neighbours = false;            // a pair is (2i, 2i + 1) instead of (i, i + D/2)
  std::vector<double> rope_frequencies{};  // D/2; empty: theta^(-2i/D)
  double rope_magnitude = 1;               // what turned queries and keys are multiplied with

  bool llama() const { return family == "llama"; }
  Index d() const { return head_size ? head_size : width / heads; }
  Index q_width() const { return heads * d(); }                           // H D
  Index kv_width() const { return (kv_heads ? kv_heads : heads) * d(); }  // G D
  Index qkv_width() const { return q_width() + 2 * kv_width(); }
  Index up_width() const { return llama() ? 2 * ffn : ffn; }
};

// Weights are (out, in), vectors (1, n); what a family lacks is empty.
struct Block {
  Array norm1_weight, norm1_bias, qkv_weight, qkv_bias, o_weight, o_bias;
  Array norm2_weight, norm2_bias, up_weight, up_bias, down_weight, down_bias;  // up (F,C); llama (2F,C): gate, then up
  Array q_norm_weight, k_norm_weight;                                          // (1,D), the same for every head
};
struct Model {
  Shape shape;
  Array token, position;
  std::vector<Block> blocks;
  Array norm_weight, norm_bias;
  Array head;  // (V,C); empty when tied to `token`
};

// The matrix an adapter sits on; q, k, v are parts of the fused qkv, `qkv` is all of it. Only llama has a gate; there it
// and up are halves of one product.
enum class Where { q, k, v, o, up, down, qkv, gate };

// y += (alpha / R) B (A x): a is (R,in), b (out,R).
struct Adapter {
  Index layer = 0;
  Where where = Where::qkv;
  double alpha = 0;
  Array a, b;
  double scale() const { return alpha / static_cast<double>(a.rows); }
};

// rows x length tokens; labels are already shifted: labels[n] is what position n predicts, -100 where nothing is.
struct Batch {
  Index length = 0;
  std::vector<std::int32_t> ids, labels;
};

struct Options {
  double label_smoothing = 0;
  // What the adapter's input element (row n of the batch's tokens, column i) is multiplied with; empty: 1 everywhere.
  std::function<double(const Adapter&, Index row, Index col)> dropout;
};

struct Gradients {
  double loss = 0;
  Model dense;                    // of every dense weight
  std::vector<Adapter> adapters;  // in the order given; a and b hold the gradients
};

// Each throws std::invalid_argument for a gate in GPT-2 and for other than D/2 frequencies.
Array logits(const Model& model, const std::vector<Adapter>& adapters, const Batch& batch, const Options& options = {});
double loss(const Model& model, const std::vector<Adapter>& adapters, const Batch& batch, const Options& options = {});
Gradients gradients(const Model& model, const std::vector<Adapter>& adapters, const Batch& batch,
                    const Options& options = {});

// Every dense tensor of the family with its name; every adapter's two with theirs ("layers.3.attention.qkv.q.lora_a").
struct Named {
  std::string name;
  Array* array;
};
std::vector<Named> named(Model& model);
std::vector<Named> named(std::vector<Adapter>& adapters, const std::string& family = "gpt2");
std::string name_of(Index layer, Where where, const std::string& family = "gpt2");  // without ".lora_a"

// The same extents, all zero. Throws std::invalid_argument for an unknown family.
Model zeros(const Shape& shape);
// Normal random values of deviation 0.12, norm weights around 1, biases around 0, so that no gradient is close to zero;
// rounded to f32, so that both sides start from the same numbers.
Model random_model(const Shape& shape, unsigned seed);

}  // namespace lorashard::oracle
