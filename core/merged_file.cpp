#include "core/merged_file.hpp"

#include <memory>

#include "core/host_copy.hpp"
#include "core/residual_file.hpp"

namespace lorashard::core {
namespace {

using dist::AxisCut;
using kernels::fail;
using kernels::Failure;
using kernels::Matrix;
using kernels::text;

// Copies tensors in pieces that the ranks take in turns.
class Copier {
 public:
  Copier(BaseFileWriter& to, dist::Communicator& world, kernels::Place& place)
      : to_(to), world_(world), place_(place) {}

  // change(rows, cols, matrix) sees each piece on its way.
  template <class Change>
  void copy(const BaseFile& from, const TensorInfo& tensor, const Change& change) {
    const AxisCut cols = AxisCut::whole(tensor.cols);
    place_.beat();
    for_each_rows(tensor, [&](const AxisCut& rows) {
      if (turn_++ % world_.size() != world_.rank()) return;
      const DType dtype = from.dtype(tensor);
      memory_.resize(static_cast<std::size_t>(rows.local_extent() * tensor.cols * size_bytes(dtype)));
      const Matrix piece(memory_.data(), dtype, rows.local_extent(), tensor.cols, tensor.cols);
      from.read(tensor, rows, cols, piece);
      change(rows, cols, piece);
      to_.write(tensor, rows, cols, piece);
    });
  }
  void copy(const BaseFile& from, const TensorInfo& tensor) {
    copy(from, tensor, [](const AxisCut&, const AxisCut&, Matrix) {});
  }

 private:
  BaseFileWriter& to_;
  dist::Communicator& world_;
  kernels::Place& place_;
  int turn_ = 0;
  std::vector<std::byte> memory_;
};

void expect_same(const std::string& path, const char* field, const std::string& found, const std::string& expected,
                 const std::string& of) {
  if (found != expected)
    fail(Failure::configuration, text(path, ": ", field, ": found ", found, ", expected ", expected, " of ", of));
}

}  // namespace

DType dtype_of(const BaseFile& base) {
  const std::vector<TensorInfo> table = tensor_table(base.shape());
  const DType first = base.dtype(table.front());
  for (const TensorInfo& tensor : table)
    if (base.dtype(tensor) != first)
      fail(Failure::configuration, text(base.path(), ": ", tensor.name, ": found ", name(base.dtype(tensor)),
                                        ", expected ", name(first), " as the others"));
  return first;
}

Digest write_merged(const std::string& path, const BaseFile& base, const Merge& merge, const Context& context) {
  dist::Communicator& world = context.mesh.world();
  BaseFileWriter writer(path, base.shape(), dtype_of(base), world);
  writer.set_merged_from({base.digest().hex(), merge.adapter_digest().hex()});
  Copier copier(writer, world, context.device.profile().place());
  std::size_t next = 0;  // of merge.tensors(), which are in the table's order
  for (const TensorInfo& tensor : tensor_table(base.shape())) {
    if (next == merge.tensors().size() || merge.tensors()[next].name != tensor.name) {
      copier.copy(base, tensor);
      continue;
    }
    ++next;
    if (context.mesh.point().data != 0) continue;
    merge.for_each_piece(tensor, [&](const Merge::Piece& piece) {
      if (piece.counts) writer.write(tensor, piece.rows, piece.cols, HostCopy(context.device, piece.memory));
    });
  }
  return writer.finish();
}

Digest unmerge_file(const Unmerging& files, dist::Communicator& world, kernels::Place& place) {
  const auto beat = [&] { place.beat(); };
  const BaseFile merged(files.from);
  if (!merged.merged_from())
    fail(Failure::configuration, text(files.from, ": merged_base: missing, expected a file that lorashard merge made"));
  const std::string& expected = merged.merged_from()->base;
  std::unique_ptr<BaseFile> base;
  std::unique_ptr<ResidualFile> residual;
  if (!files.base.empty()) {
    base = std::make_unique<BaseFile>(files.base);
    expect_same(files.base, "digest", base->digest().hex(), expected, text("the base of ", files.from));
    base->verify(world.rank(), world.size(), beat);
  } else {
    residual = std::make_unique<ResidualFile>(files.residual);
    expect_same(files.residual, "base", residual->base().hex(), expected, text("the base of ", files.from));
    expect_same(files.residual, "merged", residual->merged().hex(), merged.digest().hex(), files.from);
    residual->verify(world.rank(), world.size(), beat);
  }
  merged.verify(world.rank(), world.size(), beat);
  world.barrier();  // everything was found whole by every rank: from here on a file is written

  BaseFileWriter writer(files.to, merged.shape(), dtype_of(merged), world);
  Copier copier(writer, world, place);
  for (const TensorInfo& tensor : tensor_table(merged.shape())) {
    if (base) {
      copier.copy(base->digest(tensor) == merged.digest(tensor) ? merged : *base, tensor);
    } else if (residual->has(tensor)) {
      copier.copy(merged, tensor, [&](const AxisCut& rows, const AxisCut& cols, Matrix piece) {
        residual->apply(tensor, rows, cols, piece);
      });
    } else {
      copier.copy(merged, tensor);
    }
  }
  return writer.finish(Digest::from_hex(expected));
}

}  // namespace lorashard::core
