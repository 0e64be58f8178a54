// The oracle: a GPT-2 transformer with LoRA, its loss and every gradient, in plain double loops on one thread. It
// shares no code with kernels/ or core/ and is itself proved against ../shared/golden (tests/core/test_oracle.cpp).
// Names of tensors are those of the program's tensor table, so that both sides can be matched by name.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/oracle/operations.hpp"

namespace lorashard::oracle {

struct Shape {
  Index layers = 0, width = 0, heads = 0, ffn = 0, vocab = 0, context = 0;
  bool tied_head = true;
  double norm_eps = 1e-5;
};

// Weights are (out, in), vectors (1, n).
struct Block {
  Array norm1_weight, norm1_bias, qkv_weight, qkv_bias, o_weight, o_bias;
  Array norm2_weight, norm2_bias, up_weight, up_bias, down_weight, down_bias;
};
struct Model {
  Shape shape;
  Array token, position;
  std::vector<Block> blocks;
  Array norm_weight, norm_bias;
  Array head;  // (V,C); empty when tied to `token`
};

// The matrix an adapter sits on; q, k, v are thirds of the fused qkv, `qkv` is all of it.
enum class Where { q, k, v, o, up, down, qkv };

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

Array logits(const Model& model, const std::vector<Adapter>& adapters, const Batch& batch, const Options& options = {});
double loss(const Model& model, const std::vector<Adapter>& adapters, const Batch& batch, const Options& options = {});
Gradients gradients(const Model& model, const std::vector<Adapter>& adapters, const Batch& batch,
                    const Options& options = {});

// Every dense tensor with its name; every adapter's two with theirs ("layers.3.attention.qkv.q.lora_a").
struct Named {
  std::string name;
  Array* array;
};
std::vector<Named> named(Model& model);
std::vector<Named> named(std::vector<Adapter>& adapters);
std::string name_of(Index layer, Where where);  // without ".lora_a"

// The same extents, all zero.
Model zeros(const Shape& shape);
// Normal random values of deviation 0.12, norm weights around 1, biases around 0, so that no gradient is close to zero;
// rounded to f32, so that both sides start from the same numbers.
Model random_model(const Shape& shape, unsigned seed);

}  // namespace lorashard::oracle
