// A densely trained tensor that the tensor axis cuts: this rank's slice, whose optimizer state is sharded over the data
// axis (Rajbhandari et al. 2020, arXiv 1910.02054, stage 1). The slice lies flat, padded to a multiple of the data
// extent D: gradients are reduce-scattered to D shares, each rank updates its share, and the shares are gathered again.
#pragma once

#include <memory>

#include "core/context.hpp"
#include "core/tensor_table.hpp"

namespace lorashard::core {

class DenseParameter {
 public:
  // `compute` is the element type that products read; bf16 keeps f32 master values beside it.
  DenseParameter(const Context& context, const TensorInfo& info, DType compute);

  const TensorInfo& info() const { return info_; }
  const dist::AxisCut& row_cut() const { return rows_; }
  const dist::AxisCut& col_cut() const { return cols_; }
  // What this rank writes to files: where tensor ranks hold rows (or columns) alike, one of them does.
  dist::AxisCut owned_rows() const { return rows_.owned_part(); }
  dist::AxisCut owned_cols() const { return cols_.owned_part(); }
  Index count() const { return rows_.local_extent() * cols_.local_extent(); }
  Index share() const { return share_; }  // values of one data rank

  // (local rows, local cols)
  Matrix value() { return shaped(value_); }
  Matrix gradient() { return shaped(gradient_); }
  bool has_master() const { return !master_.none(); }

  // (1, share): what this rank updates. After reduce() the gradient's share is the sum over the data axis.
  Matrix value_share();
  Matrix gradient_share();
  Matrix master_share() { return master_; }
  Matrix first_moment() { return first_; }
  Matrix second_moment() { return second_; }

  // The parts of gradient_share() that count for a total over all ranks.
  std::vector<Matrix> owned_gradients();

  // Collective over the data axis, and over the tensor axis where its ranks hold parts alike (a key/value head for the
  // queries of several): each has the gradient of its own use.
  // start_reduce() begins what reduce() then waits for: beside what is computed meanwhile, where the device can do that.
  // Until then the gradient must not be touched.
  void start_reduce(const Context& context);
  void reduce(const Context& context);
  void gather(const Context& context);
  // A state of this rank's share, whole again on every data rank: (local rows, local cols) in `to`. Collective.
  Tensor whole_of(const Context& context, ConstMatrix share) const;
  // This rank's share of a whole (local rows, local cols) f32 matrix, zero where it is padding.
  void take_share(const Context& context, ConstMatrix whole, Matrix share) const;
  // Master values (or the values themselves) from a whole f32 slice, on every rank; the compute copy follows.
  void set_value(const Context& context, ConstMatrix whole);
  Matrix shaped(Tensor& flat) const;

 private:
  void sum_held_alike(const Context& context);

  TensorInfo info_;
  dist::AxisCut rows_, cols_;
  Index share_ = 0, share_first_ = 0;
  Tensor value_;     // (1, D share) compute type
  Tensor gradient_;  // (1, D share) f32
  Tensor reduced_;   // (1, share) f32; none on one data rank, where the gradient itself is complete
  Tensor master_;    // (1, share) f32; none in f32, where the value's own share is the master
  Tensor first_, second_;
  bool started_ = false;                      // the reduction of this step's gradient
  std::unique_ptr<dist::Pending> reduction_;  // under way; destroyed, and so waited for, before what it reads
};

}  // namespace lorashard::core
