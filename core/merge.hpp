// Adapters merged into the frozen weights that a rank holds, in place, and taken out again: W += s B A for the slice of
// W that lies here, piece by piece.
//
// The update of an element is summed in fp32, over R from first to last and over the pairs in the plan's order; the
// weight is added to it in fp32, and the sum is rounded once to what W is stored as. This is done on the processor for
// every device, so that the merged weights are the same bits on every mesh and every device. It costs 2 R FLOPs an
// element of W and no memory; on cuda a piece of some MiB at a time passes through host memory.
//
// Taking an update out again by arithmetic would not give the base back: it was rounded. So the weights are read again
// from the base file, or made again from a residual (residual_file.hpp); and the digest of every tensor that was merged
// into, over all ranks, must be what it was before.
#pragma once

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "core/parameters.hpp"

namespace lorashard::core {

class ResidualFile;

// What storing W + s B A lost, each element counted once: the difference to the sum of the weight and its fp32 update.
struct MergeRounding {
  double largest = 0;        // absolute
  double largest_ulps = 0;   // in units of the last place of the stored value
  double lost_squares = 0;   // sums of squares, of the differences ...
  double update_squares = 0;  // ... and of the updates
  // Root mean square of what was lost, as a share of that of the updates.
  double lost_share() const { return update_squares > 0 ? std::sqrt(lost_squares / update_squares) : 0; }
};

class Merge {
 public:
  // Merges all pairs of `parameters` into its frozen weights. Collective over the mesh. `base`, which may be null, is where
  // the weights came from: where it has their type, their digests must be the file's. Throws Failure::storage naming the
  // tensor and both digests, Failure::configuration for a pair on a weight that trains itself, and Failure::numerics when
  // a merged weight is not finite.
  Merge(const Context& context, Parameters& parameters, const TrainingPlan& plan, const BaseFile* base);

  // Over all ranks, the same on each.
  const MergeRounding& rounding() const { return rounding_; }
  // Of names, scales and values of all pairs: the same whatever file they came from.
  const Digest& adapter_digest() const { return adapter_digest_; }
  // What was merged into, in the whole model: every rank has the same list.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }

  // A part of this rank's slice of a tensor in device memory, of some MiB, and where it lies in the whole.
  struct Piece {
    Matrix memory;
    dist::AxisCut rows, cols;
    bool counts = true;  // false: a tensor rank before this one holds these elements too
  };
  // In order; nothing when the tensor is on another stage.
  void for_each_piece(const TensorInfo& tensor, const std::function<void(const Piece&)>& body) const;

  // Gives all weights their bits of before. Collective. Throws Failure::storage, naming the tensor and both digests, when
  // they are others: the weights are not to be used then.
  void undo(const BaseFile& base);
  void undo(const ResidualFile& residual);

 private:
  // What is added to some rows of a weight.
  struct Pair;
  std::vector<Pair> pairs_of(const TensorInfo& tensor) const;
  Digest merge_into(const TensorInfo& tensor);
  void digest_adapters(const TrainingPlan& plan);
  void sum_rounding();
  void expect_digests(const std::vector<Digest>& found, const std::vector<Digest>& expected, const std::string& what) const;
  template <class Refill>
  void undo_with(const std::string& from, const Refill& refill);

  const Context& context_;
  Parameters& parameters_;
  std::vector<TensorInfo> tensors_;
  std::vector<Digest> before_;  // of tensors_, summed over all ranks: as many times as there are data ranks
  MergeRounding rounding_;
  Digest adapter_digest_;
};

}  // namespace lorashard::core
