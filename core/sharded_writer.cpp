#include "core/sharded_writer.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "core/quote.hpp"
#include "dist/mpi_communicator.hpp"

namespace lorashard::core {
namespace {

namespace fs = std::filesystem;
using kernels::fail;
using kernels::Failure;
using kernels::text;

// A verifier's memory.
constexpr Index kPiece_bytes = Index{32} << 20;
// Of one system call: large enough to cost nothing, short enough to rest in between.
constexpr Index kTransfer_bytes = Index{2} << 20;

[[noreturn]] void fail_system(const std::string& path, const char* trying) {
  const int reason = errno;
  fail(Failure::storage, text(path, ": cannot ", trying, ": ", std::strerror(reason)));
}

// Brings a file's bytes, or a directory's names, to the disk.
void synchronize(const std::string& path, const char* trying) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail_system(path, trying);
  const bool done = ::fsync(descriptor) == 0 || errno == EINVAL;  // EINVAL: a file system that has no such thing
  const int reason = errno;
  ::close(descriptor);
  errno = reason;
  if (!done) fail_system(path, trying);
}

// Takes the blocks on the disk, or at least looks whether they are there: some file systems cannot take them (NFS).
void reserve(const std::string& path, double bytes) {
  const auto refuse = [&](int reason) {
    errno = reason;
    fail_system(path, text("take ", static_cast<Index>(bytes), " bytes of disk").c_str());
  };
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && bytes > static_cast<double>(limit.rlim_cur)) refuse(EFBIG);
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor < 0) fail_system(path, "open");
  const int reason =
      ::fallocate(descriptor, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(std::min(bytes, 0x1p62))) == 0 ? 0 : errno;
  struct statvfs disk {};
  const bool known = ::fstatvfs(descriptor, &disk) == 0;
  ::close(descriptor);
  const bool impossible = reason == EOPNOTSUPP || reason == ENOSYS || reason == EINVAL;
  if (reason != 0 && !impossible) refuse(reason);
  if (reason != 0 && known && static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize) < bytes)
    refuse(ENOSPC);
}

}  // namespace

Digest digest_of(const std::string& preamble, std::vector<DigestLine> lines) {
  std::sort(lines.begin(), lines.end(), [](const DigestLine& a, const DigestLine& b) { return a.name < b.name; });
  std::string contents = text(preamble.size(), "\n", preamble);
  for (const DigestLine& line : lines)
    contents += text("\n", line.name, " ", name(line.dtype), " ", line.rows, "x", line.cols, " ", line.digest.hex());
  return digest_of(contents.data(), contents.size());
}

Digest stored_digest(const H5File& file, const std::string& name) {
  const std::string hex = file.text(name, "digest");
  try {
    return Digest::from_hex(hex);
  } catch (const kernels::Error& error) {
    fail(error.failure(), text(file.path(), ": ", in_quotes(name), ": ", error.what()));
  }
}

void verify_matrix(const H5File& file, const std::string& name) {
  const H5File::MatrixInfo info = file.matrix_info(name);
  const Index element = kernels::size_bytes(info.dtype);
  const int col_parts = static_cast<int>((info.cols * element + kPiece_bytes - 1) / kPiece_bytes);
  const Index most_rows = std::max<Index>(1, kPiece_bytes / (info.cols * element));
  const int row_parts = static_cast<int>((info.rows + most_rows - 1) / most_rows);
  Digest found;
  std::vector<std::byte> memory;
  for (int r = 0; r < row_parts; ++r)
    for (int c = 0; c < col_parts; ++c) {
      const dist::AxisCut rows({info.rows}, r, row_parts), cols({info.cols}, c, col_parts);
      const Index height = rows.local_extent(), width = cols.local_extent();
      memory.resize(static_cast<std::size_t>(height * width * element));
      const kernels::Matrix piece(memory.data(), info.dtype, height, width, width);
      file.read(name, rows, cols, piece);
      found += digest_of(piece, rows, cols);
    }
  const Digest expected = stored_digest(file, name);
  if (found != expected)
    fail(Failure::storage, text(file.path(), ": ", in_quotes(name), " is damaged: its digest is ", found.hex(),
                                ", expected ", expected.hex()));
}

double most_bytes(const std::vector<DigestLine>& matrices, std::size_t text_bytes) {
  double bytes = 0x1p14 + static_cast<double>(text_bytes);
  for (const DigestLine& line : matrices)
    bytes += 512.0 + 2.0 * static_cast<double>(line.name.size()) +
             static_cast<double>(line.rows) * static_cast<double>(line.cols * kernels::size_bytes(line.dtype));
  return bytes;
}

void put_in_place(const std::string& partial, const std::string& path) {
  synchronize(partial, "flush to the disk");
  if (std::rename(partial.c_str(), path.c_str()) != 0) fail_system(path, "put the new file in its place");
  const fs::path directory = fs::path(path).parent_path();
  synchronize(directory.empty() ? "." : directory.string(), "flush to the disk");
}

ShardedWriter::ShardedWriter(const std::string& path, dist::Communicator& communicator,
                             const std::vector<DigestLine>& matrices, std::size_t text_bytes)
    : path_(path), partial_(path + ".partial"), communicator_(communicator) {
  try {
    create(matrices, text_bytes);
  } catch (...) {
    give_up();
    throw;
  }
}

void ShardedWriter::create(const std::vector<DigestLine>& matrices, std::size_t text_bytes) {
  for (const DigestLine& line : matrices) matrices_.emplace(line.name, Matrix{line});
  if (communicator_.rank() == 0) {
    file_.emplace(H5File::create(partial_));
    reserve(partial_, most_bytes(matrices, text_bytes));
    for (const DigestLine& line : matrices) {
      file_->create_matrix(line.name, line.dtype, line.rows, line.cols);
      matrices_.at(line.name).offset_bytes = file_->offset_bytes(line.name);
    }
  }
  share_offsets();
  descriptor_ = ::open(partial_.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor_ < 0) fail_system(partial_, "open");
}

void ShardedWriter::share_offsets() {
  if (communicator_.size() == 1) return;
  std::vector<std::int64_t> offsets;
  for (const auto& [name, matrix] : matrices_) offsets.push_back(matrix.offset_bytes);
  const MPI_Comm comm = dist::mpi_comm(communicator_);
  if (comm == MPI_COMM_NULL) fail(Failure::storage, text(path_, ": cannot create: a planned run has no ranks to write it"));
  if (MPI_Bcast(offsets.data(), static_cast<int>(offsets.size()), MPI_INT64_T, 0, comm) != MPI_SUCCESS)
    fail(Failure::communication, text(path_, ": the places of its tensors did not get to all ranks"));
  std::size_t i = 0;
  for (auto& [name, matrix] : matrices_) matrix.offset_bytes = offsets[i++];
}

void ShardedWriter::give_up() noexcept {
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  file_.reset();
  ::unlink(partial_.c_str());
}

ShardedWriter::~ShardedWriter() {
  if (finished_)
    ::close(descriptor_);
  else
    give_up();
}

template <class Byte, class Move>
void ShardedWriter::for_each_run(const Matrix& matrix, const dist::AxisCut& rows, const dist::AxisCut& cols,
                                 const kernels::BasicMatrix<Byte>& memory, const Move& move) {
  const Index element = kernels::size_bytes(matrix.line.dtype);
  const bool whole_rows = cols.runs().size() == 1 && cols.run_count() == matrix.line.cols && memory.contiguous();
  for (const dist::Run& r : rows.runs()) {
    const Index together = whole_rows ? r.count : 1;  // rows that follow each other in memory and in the file
    for (Index i = 0; i < r.count; i += together)
      for (const dist::Run& c : cols.runs())
        move(memory.data + ((r.local.value + i) * memory.stride + c.local.value) * element, together * c.count * element,
             matrix.offset_bytes + ((r.global.value + i) * matrix.line.cols + c.global.value) * element);
  }
}

void ShardedWriter::write(const std::string& name, const dist::AxisCut& rows, const dist::AxisCut& cols,
                          kernels::ConstMatrix from) {
  const auto found = matrices_.find(name);
  if (found == matrices_.end()) fail(Failure::other, text(path_, ": ", name, " is not among the tensors announced"));
  Matrix& matrix = found->second;
  const DigestLine& line = matrix.line;
  if (rows.global_extent() != line.rows || cols.global_extent() != line.cols || from.dtype != line.dtype ||
      from.rows != rows.local_extent() || from.cols != cols.local_extent())
    fail(Failure::other, text(path_, ": ", name, ": found ", kernels::extents(from), " ", kernels::name(from.dtype), " of ",
                              rows.global_extent(), "x", cols.global_extent(), ", announced as ", line.rows, "x", line.cols,
                              " ", kernels::name(line.dtype)));
  for_each_run(matrix, rows, cols, from, [&](const std::byte* data, Index bytes, std::int64_t at) {
    while (bytes > 0) {
      const ssize_t written = ::pwrite(descriptor_, data, static_cast<std::size_t>(std::min(bytes, kTransfer_bytes)), at);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) fail_system(partial_, text("write ", name).c_str());
      // On its way at once, so that what is left for the end is little: a burst would be in the training's way.
      ::sync_file_range(descriptor_, at, written, SYNC_FILE_RANGE_WRITE);
      data += written;
      bytes -= written;
      at += written;
      pace_();
    }
  });
  slices_.push_back({&matrix, rows, cols, digest_of(from, rows, cols)});
  pace_();
  matrix.line.digest += slices_.back().digest;
  matrix.written += static_cast<double>(rows.run_count() * cols.run_count());
}

void ShardedWriter::prove() {
  if (::fsync(descriptor_) != 0 && errno != EINVAL) fail_system(partial_, "flush to the disk");
  std::vector<std::byte> memory;
  for (const Slice& slice : slices_) {
    const DigestLine& line = slice.matrix->line;
    const Index height = slice.rows.local_extent(), width = slice.cols.local_extent();
    memory.resize(static_cast<std::size_t>(height * width * kernels::size_bytes(line.dtype)));
    const kernels::Matrix again(memory.data(), line.dtype, height, width, width);
    for_each_run(*slice.matrix, slice.rows, slice.cols, again, [&](std::byte* data, Index bytes, std::int64_t at) {
      while (bytes > 0) {
        const ssize_t read = ::pread(descriptor_, data, static_cast<std::size_t>(std::min(bytes, kTransfer_bytes)), at);
        if (read < 0 && errno == EINTR) continue;
        if (read <= 0) fail_system(partial_, text("read ", line.name, " again").c_str());
        data += read;
        bytes -= read;
        at += read;
        pace_();
      }
    });
    if (const Digest found = digest_of(again, slice.rows, slice.cols); found != slice.digest)
      fail(Failure::storage, text(partial_, ": ", line.name, " reads otherwise than it was written: its digest is ",
                                  found.hex(), ", expected ", slice.digest.hex()));
    pace_();
  }
  proven_ = true;
}

Digest ShardedWriter::finish(const std::string& preamble, const std::optional<Digest>& expected) {
  if (!proven_) prove();
  sum_over_ranks();
  std::vector<DigestLine> lines;
  for (const auto& [name, matrix] : matrices_) lines.push_back(matrix.line);
  const Digest digest = digest_of(preamble, lines);
  if (expected && digest != *expected)
    fail(Failure::storage, text(path_, ": the digest of what would be written is ", digest.hex(), ", expected ",
                                expected->hex(), "; nothing was written"));
  if (file_) {
    for (const DigestLine& line : lines) file_->set_text(line.name, "digest", line.digest.hex());
    file_->set_text("/", "digest", digest.hex());
    file_->close();
  }
  publish();
  return digest;
}

void ShardedWriter::sum_over_ranks() {
  std::vector<Digest> digests;
  std::vector<double> written;
  for (const auto& [name, matrix] : matrices_) {
    digests.push_back(matrix.line.digest);
    written.push_back(matrix.written);
  }
  digests = sums_of(communicator_, digests);
  const std::vector<double> all = communicator_.gather_values(written);
  std::size_t i = 0;
  for (auto& [name, matrix] : matrices_) {
    double sum = 0;
    for (std::size_t k = i; k < all.size(); k += written.size()) sum += all[k];
    const double expected = static_cast<double>(matrix.line.rows * matrix.line.cols);
    if (sum != expected)
      fail(Failure::other, text(path_, ": ", name, ": ", sum, " elements were written, expected ", expected));
    matrix.line.digest = digests[i++];
  }
}

// What the ranks wrote is on the disk; only now may the name appear.
void ShardedWriter::publish() {
  communicator_.barrier();
  if (communicator_.rank() == 0) {
    // What was reserved and not needed goes back.
    if (::truncate(partial_.c_str(), static_cast<off_t>(fs::file_size(partial_))) != 0) fail_system(partial_, "write");
    put_in_place(partial_, path_);
  }
  finished_ = true;
  communicator_.barrier();
}

}  // namespace lorashard::core
