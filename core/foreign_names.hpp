// What Hugging Face calls the tensors of a model and the modules that adapters sit on, by family.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "core/tensor_table.hpp"

namespace lorashard::core {

// Rows [first, first + count) of one of our matrices, or columns of a vector, and the tensor of theirs that holds them.
struct ForeignPart {
  std::string name;     // "model.layers.3.self_attn.k_proj.weight"
  Index first = 0, count = 0;
  bool turned = false;  // stored (in, out): Hugging Face's Conv1D
  bool rotary = false;  // rows of heads that turn: in Hugging Face's files their pairs are halves of a head
};
// In rising order; one where nothing is fused. GPT-2's names without "transformer.", which files may have in front.
std::vector<ForeignPart> foreign_parts(const TensorInfo& tensor, const ModelShape& shape);

// A linear module, and the target of an adapter that sits on all of it.
struct ForeignModule {
  std::string name;  // "attn.c_attn"
  Target target;
  Index in = 0, out = 0;
};
std::vector<ForeignModule> foreign_modules(const ModelShape& shape);

// Rows (rows, cols) of whole heads of D features, whose pairs are neighbours, as halves; and the other way round.
template <class Number>
std::vector<Number> neighbours_to_halves(const std::vector<Number>& values, Index cols, Index head_size);
template <class Number>
std::vector<Number> halves_to_neighbours(const std::vector<Number>& values, Index cols, Index head_size);

// What stands in front of a module's name: "transformer.h.3.", "model.layers.3.".
std::string foreign_block(const ModelShape& shape, Index layer);
// A regular expression for it, whose only group is the layer. What adapters are saved of may lack its first word.
std::string foreign_block_pattern(const ModelShape& shape);

// Row `row` of whole heads, counted as neighbours, in an order of halves.
inline Index row_of_halves(Index row, Index head_size) {
  const Index i = row % head_size;
  return row - i + i / 2 + i % 2 * (head_size / 2);
}

template <class Number>
std::vector<Number> neighbours_to_halves(const std::vector<Number>& values, Index cols, Index head_size) {
  std::vector<Number> result(values.size());
  for (Index row = 0; row < static_cast<Index>(values.size()) / cols; ++row)
    std::copy_n(values.begin() + row * cols, cols, result.begin() + row_of_halves(row, head_size) * cols);
  return result;
}

template <class Number>
std::vector<Number> halves_to_neighbours(const std::vector<Number>& values, Index cols, Index head_size) {
  std::vector<Number> result(values.size());
  for (Index row = 0; row < static_cast<Index>(values.size()) / cols; ++row)
    std::copy_n(values.begin() + row_of_halves(row, head_size) * cols, cols, result.begin() + row * cols);
  return result;
}

}  // namespace lorashard::core
