// The frozen base: one HDF5 dataset per tensor of tensor_table, in global coordinates, each with its digest.
//
//   /                attributes: format "lorashard base 1", family, layers, width, heads, kv_heads, ffn, vocab, context,
//                    tied_head, norm_eps; with family llama head_size, qkv_bias, qk_norm, window and rope_...; digest (of
//                    the attributes and all names, extents and tensor digests)
//   /tensors/<name>  (rows, cols) f32 or bf16, attribute digest
//
//   A base that adapters were merged into also has attributes merged_base and merged_adapter: the digests of what went
//   into it. No digest covers them, so programs that do not know them read the file as before.
//
// A finished run of full fine-tuning writes this very format, so its result is the next job's model.base.
#pragma once

#include "core/sharded_writer.hpp"
#include "core/tensor_table.hpp"

namespace lorashard::core {

// What a merged base was made from: digests, in hex.
struct MergedFrom {
  std::string base, adapter;
};

class BaseFile {
 public:
  // Checks that every tensor of the shape's table is there with its extents, nothing else is, and no digest is missing;
  // reads no tensor. Throws Failure::configuration naming file, tensor, found and expected, and Failure::storage when
  // the file cannot be read or its attributes do not add up to its digest.
  explicit BaseFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const ModelShape& shape() const { return shape_; }
  const Digest& digest() const { return digest_; }
  const std::optional<MergedFrom>& merged_from() const { return merged_from_; }
  kernels::DType dtype(const TensorInfo& tensor) const;
  Digest digest(const TensorInfo& tensor) const;
  // This rank's slice, in the file's element type. `to` has the cuts' local extents.
  void read(const TensorInfo& tensor, const dist::AxisCut& rows, const dist::AxisCut& cols, kernels::Matrix to) const;
  // Reads everything in pieces and compares all digests; throws Failure::storage naming the first tensor that differs.
  // With `parts` above 1 only every parts-th tensor, from tensor `part` on: the ranks of a job share the reading.
  // `after_each` is called after each tensor.
  void verify(Index part = 0, Index parts = 1, const std::function<void()>& after_each = [] {}) const;

 private:
  H5File file_;
  ModelShape shape_;
  Digest digest_;
  std::optional<MergedFrom> merged_from_;
};

// Writes a base file: collective over `communicator` (any group; MPI or a world of one). Written to "<path>.partial",
// digests last, then renamed. A writer that is destroyed before finish() removes what it wrote.
class BaseFileWriter {
 public:
  BaseFileWriter(const std::string& path, const ModelShape& shape, kernels::DType dtype,
                 dist::Communicator& communicator);
  // Not collective. Each element of a tensor must be written by exactly one rank (its digest is summed over ranks).
  void write(const TensorInfo& tensor, const dist::AxisCut& rows, const dist::AxisCut& cols, kernels::ConstMatrix from);
  // Before finish(): adds the attributes.
  void set_merged_from(const MergedFrom& from);
  // Collective. Throws when a tensor was not written whole, and when the digest is not the one `expected`: then nothing was
  // written. Returns the file's digest.
  Digest finish(const std::optional<Digest>& expected = {});

 private:
  ModelShape shape_;
  ShardedWriter writer_;
};

}  // namespace lorashard::core
