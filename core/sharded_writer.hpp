// What writing a base file and writing a checkpoint have in common: many ranks write slices of named matrices into
// "<path>.partial"; then digests are summed, everything is brought to the disk, and the file gets its name.
//
// Rank 0 makes the file with HDF5, which gives every matrix its place; the elements are then written there by plain
// system calls. So they can be written by any thread, beside a training that uses MPI and HDF5 itself: HDF5's own
// parallel files would need all ranks in the same calls.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/digest.hpp"
#include "core/hdf5.hpp"

namespace lorashard::core {

// One line of a file's table of contents; the file's digest is that of all lines, sorted by name, after a preamble that
// holds the attributes. Reader and writer both make it.
struct DigestLine {
  std::string name;
  kernels::DType dtype;
  Index rows, cols;
  Digest digest;
};
Digest digest_of(const std::string& preamble, std::vector<DigestLine> lines);

// Reads a matrix in bounded pieces, compares it with its digest attribute; throws Failure::storage, naming both.
void verify_matrix(const H5File& file, const std::string& name);
// The attribute of every matrix; throws when it is missing or no digest.
Digest stored_digest(const H5File& file, const std::string& name);

// The most that a file of these matrices takes: beside its data a dataset costs some 350 bytes and its name twice, and
// the file a few kilobytes.
double most_bytes(const std::vector<DigestLine>& matrices, std::size_t text_bytes);

// What lies under `partial` is brought to the disk and gets its name; whatever had the name before is gone.
void put_in_place(const std::string& partial, const std::string& path);

class ShardedWriter {
 public:
  // Collective. `matrices` without their digests; `text_bytes` of attributes will come. Takes the disk space for all of
  // it first, so that a full disk shows before anything is written. Throws Failure::storage.
  ShardedWriter(const std::string& path, dist::Communicator& communicator, const std::vector<DigestLine>& matrices,
                std::size_t text_bytes);
  // Unless finished, removes what was written. Does not wait for other ranks, which may have failed.
  ~ShardedWriter();
  ShardedWriter(const ShardedWriter&) = delete;
  ShardedWriter& operator=(const ShardedWriter&) = delete;

  // For attributes: on rank 0 alone, null elsewhere.
  H5File* file() { return file_ ? &*file_ : nullptr; }

  // Neither collective nor a call of HDF5 or MPI: any thread, one at a time. Each element of a matrix by exactly one
  // rank; `from` in the cuts' local extents.
  void write(const std::string& name, const dist::AxisCut& rows, const dist::AxisCut& cols, kernels::ConstMatrix from);
  // `pace` is called now and then in between, on the thread that writes: a save that is in no hurry rests there.
  void rest_with(std::function<void()> pace) { pace_ = std::move(pace); }
  // The same: brings what this rank wrote to the disk, reads it again and compares it. Throws Failure::storage.
  void prove();

  // Collective. Proves first what was not. Throws Failure::other when a matrix was not written whole, and Failure::storage
  // when the file's digest is not the one `expected`: then no file gets its name. Returns the file's digest.
  Digest finish(const std::string& preamble, const std::optional<Digest>& expected = {});

 private:
  struct Matrix {
    DigestLine line;     // its digest is that of this rank's slices
    double written = 0;  // elements, by this rank
    std::int64_t offset_bytes = 0;
  };
  struct Slice {  // that this rank has written
    const Matrix* matrix;
    dist::AxisCut rows, cols;
    Digest digest;
  };
  void create(const std::vector<DigestLine>& matrices, std::size_t text_bytes);
  void share_offsets();
  void give_up() noexcept;
  // move(bytes of memory, their count, place in the file) for every run of the slice.
  template <class Byte, class Move>
  static void for_each_run(const Matrix& matrix, const dist::AxisCut& rows, const dist::AxisCut& cols,
                           const kernels::BasicMatrix<Byte>& memory, const Move& move);
  void sum_over_ranks();
  void publish();

  std::string path_, partial_;
  dist::Communicator& communicator_;
  std::optional<H5File> file_;  // rank 0
  int descriptor_ = -1;         // of this rank's own writing
  std::map<std::string, Matrix> matrices_;
  std::vector<Slice> slices_;
  std::function<void()> pace_ = [] {};
  bool proven_ = false, finished_ = false;
};

}  // namespace lorashard::core
