// Every tensor of a model once: name, global extents, which axis is cut and by what, which part of the model owns it,
// its initial value. Loading, planning, optimizer, checkpoint and printing walk this table; a family is a page here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "dist/shard.hpp"

namespace lorashard::core {

enum class CutAxis { none, rows, cols };

// Where a tensor lives in the pipeline. `both_ends` is the tied embedding: on the first and on the last stage.
enum class Home { first, layer, last, both_ends };

struct TensorInfo {
  std::string name;             // "layers.3.attention.qkv.weight"
  Index rows = 0, cols = 0;     // global; weights are (out, in), a vector is (1, n)
  CutAxis cut = CutAxis::none;  // over the tensor axis
  std::vector<dist::Segment> segments;  // of the cut axis (shard.hpp)
  Home home = Home::layer;
  Index layer = -1;
  float init_scale = 0;         // random normal with this deviation ...
  float init_constant = 0;      // ... or this constant when init_scale is 0
  bool decay = false;           // weight decay when trained densely: matrices yes, biases and norms no
  bool of_heads = false;        // whole, but each tensor rank sees other heads: its gradient there is a partial sum

  dist::AxisCut row_cut(int part, int parts) const;
  dist::AxisCut col_cut(int part, int parts) const;
};

// In a fixed order: embedding, layers from first to last, final norm, head. Tied heads have no row of their own.
std::vector<TensorInfo> tensor_table(const ModelShape& shape);
// Of the layers only those [first, first + count).
std::vector<TensorInfo> tensor_table(const ModelShape& shape, Index first, Index count);

// The entry called `name`; throws when there is none.
const TensorInfo& find(const std::vector<TensorInfo>& table, const std::string& name);

// Throws Failure::configuration when the tensor extent does not divide heads or widths, naming the extents that would.
// Key/value heads need not be divided: ranks may hold some alike.
void check_divides(const ModelShape& shape, int tensor_extent);

Index parameter_count(const ModelShape& shape);
// Those that every token is multiplied with: the matrices of the layers, and the head.
double multiplied_parameters(const ModelShape& shape);

// The random stream that belongs to a tensor (or another use) called `name`: random.hpp.
std::uint64_t stream_of(const std::string& name);

}  // namespace lorashard::core
