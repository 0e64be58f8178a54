// What every layer of a rank's model needs to know, and how the residual stream lies on the tensor axis.
//
// A microbatch of B sequences of T tokens is M = B T flat rows (b, t). Without sequence parallelism every rank of the
// tensor axis holds the residual stream whole, (M, C). With it rank i holds rows [i S, i S + S) of them, S = ceil(M / t):
// the last ranks may have fewer than S rows, or none, and the rest of their buffer is padding that no result depends on.
// So any M runs on any t. Korthikanti et al. 2022 (arXiv 2205.05198), section 4.2.2.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "core/config.hpp"
#include "core/first_not_finite.hpp"
#include "dist/mesh.hpp"
#include "dist/parallel_state.hpp"
#include "kernels/device.hpp"
#include "kernels/embedding.hpp"
#include "kernels/loss.hpp"
#include "kernels/random.hpp"

namespace lorashard::core {

using kernels::ActivationKind;
using kernels::Category;
using kernels::ConstMatrix;
using kernels::DType;
using kernels::Matrix;
using kernels::Tensor;

class LogitChange;

struct Context {
  kernels::Device& device;
  dist::Mesh& mesh;
  ModelShape shape;
  DType activation = DType::f32;  // of weights and activations; sums, statistics and adapters are f32 always
  Recompute recompute = Recompute::none;
  bool sequence_parallel = false;
  double dropout = 0;
  float label_smoothing = 0;
  std::uint64_t adapter_seed = 1;
  FirstNotFinite* finder = nullptr;  // set while a step that went wrong is run again
  LogitChange* logits = nullptr;     // set while an evaluation's logits are compared
  bool skips_adapters = false;       // forward passes do without them: they are merged into the weights

  int tensor_rank() const { return mesh.point().tensor; }
  int tensor_size() const { return mesh.extents().tensor; }
  bool splits_rows() const { return sequence_parallel && tensor_size() > 1; }
  // A gradient of a value that all tensor ranks hold alike is complete on each of them unless rows are split: then just
  // one of them may hand it to the sum.
  bool adds_whole_gradients() const { return splits_rows() || tensor_rank() == 0; }
  // Shows the finder `values` of the layer in hand (or `layer`), whose first row is row `first_row` of the microbatch. Their
  // name, `owner` and `part` together, is made only for a finder: this stands in every layer's way.
  void look(std::string_view owner, std::string_view part, ConstMatrix values, const Microbatch& microbatch,
            Index first_row, std::optional<Index> layer = {}) const {
    if (finder)
      finder->look(std::string(owner).append(part), layer.value_or(device.profile().place().layer), values, &microbatch,
                   first_row);
  }
};

class KeyValueCache;

// One microbatch on its way through the model.
struct Microbatch {
  Index number = 0;          // of its data rank, in this step
  Index sequences = 0;       // B
  Index length = 0;          // T
  Index first_sequence = 0;  // of the step's global batch
  Index step = 0;
  float loss_scale = 0;      // 1 / scored tokens of the step's global batch
  bool training = true;      // dropout is on
  kernels::TokenIds ids;     // M, in device memory
  kernels::Labels labels;    // M, in device memory
  KeyValueCache* cache = nullptr;  // generation: keys and values of what came before, and of what comes
  kernels::TokenIds positions;     // with a cache, M: where each row stands in its sequence
  Index rows() const { return sequences * length; }
};

// This rank's rows of the residual stream.
struct RowPart {
  Index whole = 0;   // M
  Index buffer = 0;  // rows of a buffer that collectives move: S, or M when rows are not split
  Index first = 0;   // first row that is ours
  Index count = 0;   // rows that are ours
};
inline RowPart row_part(const Context& context, Index rows) {
  if (!context.splits_rows()) return {rows, rows, 0, rows};
  const Index share = (rows + context.tensor_size() - 1) / context.tensor_size();
  const Index first = std::min(rows, share * context.tensor_rank());
  return {rows, share, first, std::min(share, rows - first)};
}
// Rows of a buffer that holds all parts, padding included.
inline Index gathered_rows(const Context& context, Index rows) {
  return context.splits_rows() ? row_part(context, rows).buffer * context.tensor_size() : rows;
}

}  // namespace lorashard::core
