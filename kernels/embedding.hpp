// Token and position embedding with a vocabulary that is cut over ranks.
#pragma once

#include <span>

#include "kernels/device.hpp"

namespace lorashard::kernels {

// Token ids of a microbatch, in device memory (kernels::Integers).
using TokenIds = std::span<const std::int32_t>;

// y (M,C) = table[ids[m] - first] for ids in [first, first + rows of table), zero rows otherwise.
// The sum over the tensor axis is the embedding. table (V/t, C) f32 or bf16, y f32 or bf16.
struct EmbeddingForward {
  TokenIds ids;
  ConstMatrix table;
  Index first = 0;
  Matrix y;
};
void embedding(Device& device, const EmbeddingForward& args);

// dtable[ids[m] - first] += dy[m], rows in order of m (deterministic). dtable (V/t, C) f32.
struct EmbeddingBackward {
  TokenIds ids;
  ConstMatrix dy;
  Index first = 0;
  Matrix dtable;
};
void embedding(Device& device, const EmbeddingBackward& args);

// y[m] += table[position], position = (first_row + m) % length: learned positions of flat (b, t) rows.
void add_positions(Device& device, ConstMatrix table, Index first_row, Index length, Matrix y);
// dtable[position] += dy[m] in order of m.
void positions_gradient(Device& device, ConstMatrix dy, Index first_row, Index length, Matrix dtable);

}  // namespace lorashard::kernels
