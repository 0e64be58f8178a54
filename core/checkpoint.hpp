// A training state in global coordinates: loads on any mesh. Written to "<path>.partial", flushed, digests last, then
// renamed, so a file that carries its name is whole.
//
//   /                attributes: format "lorashard checkpoint 1", step, method, config (the job as text), base_digest,
//                    digest (of all names, extents and tensor digests, and the attributes above); tensors: the names of
//                    all that follow, a line each, so that a message can say which one is missing
//   /tensors/<name>  (rows, cols) f32, attribute digest. Names: "layers.3.attention.qkv.q.lora_a", "...lora_b" for
//                    adapters, the table's names for dense weights
//   /first_moment/<name>, /second_moment/<name>
//                    optimizer state of the same names; calls below name it "<name>/first_moment",
//                    "<name>/second_moment"
//
// Nothing of when, where or on which mesh: the same state is the same bytes.
#pragma once

#include <string>
#include <vector>

#include "core/sharded_writer.hpp"

namespace lorashard::core {

struct CheckpointInfo {
  Index step = 0;           // steps finished; data continues here
  std::string method;       // "lora" or "full"
  std::string config;       // the job file in canonical form
  std::string base_digest;  // hex; empty when started from nothing
};

// name and global extents; every rank passes the same list.
struct CheckpointEntry {
  std::string name;
  Index rows = 0, cols = 0;
};

// Throws Failure::configuration unless an adapter's base digest (hex) is `expected`, that of the base file `base`.
void expect_base(const std::string& path, const std::string& found, const std::string& expected,
                 const std::string& base);

class CheckpointWriter {
 public:
  // Collective over `communicator` (all ranks of the job). Throws Failure::storage. A writer that is destroyed before
  // finish() removes what it wrote.
  CheckpointWriter(const std::string& path, const CheckpointInfo& info, const std::vector<CheckpointEntry>& entries,
                   dist::Communicator& communicator);
  // Not collective, on any thread; each element by exactly one rank. f32 host memory in the cuts' local extents.
  void write(const std::string& name, const dist::AxisCut& rows, const dist::AxisCut& cols, kernels::ConstMatrix from);
  // See ShardedWriter.
  void rest_with(std::function<void()> pace) { writer_.rest_with(std::move(pace)); }
  // The same: what this rank wrote is on the disk and reads as it was written. Throws Failure::storage.
  void prove();
  // Collective: proves what was not, then digests, rename. Returns the file's size in bytes.
  Index finish();

 private:
  std::string path_;
  CheckpointInfo info_;
  ShardedWriter writer_;
};

class CheckpointReader {
 public:
  // Throws Failure::storage when the file is truncated or of another format, or when a tensor is missing or was added,
  // which the message names.
  explicit CheckpointReader(const std::string& path);
  const std::string& path() const { return file_.path(); }
  const CheckpointInfo& info() const { return info_; }
  const std::vector<CheckpointEntry>& entries() const { return entries_; }  // sorted by name
  const Digest& digest() const { return digest_; }
  bool has(const std::string& name) const;
  // Throws when missing, or when the file's extents are not those of the cuts.
  void read(const std::string& name, const dist::AxisCut& rows, const dist::AxisCut& cols, kernels::Matrix to) const;
  // Reads everything in pieces and compares all digests; throws Failure::storage naming the first tensor that differs.
  // `after_each` is called after each tensor.
  void verify(const std::function<void()>& after_each = [] {}) const;

 private:
  H5File file_;
  CheckpointInfo info_;
  std::vector<CheckpointEntry> entries_;
  Digest digest_;
};

}  // namespace lorashard::core
