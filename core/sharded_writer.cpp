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

H5File create_partial(const std::string& partial, dist::Communicator& communicator) {
  return H5File::create(partial, communicator.size() == 1 ? MPI_COMM_SELF : dist::mpi_comm(communicator));
}

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

ShardedWriter::ShardedWriter(const std::string& path, dist::Communicator& communicator,
                             const std::vector<DigestLine>& matrices, std::size_t text_bytes)
    : path_(path), partial_(path + ".partial"), communicator_(communicator) {
  try {
    create(matrices, text_bytes);
  } catch (...) {
    file_.reset();
    ::unlink(partial_.c_str());
    throw;
  }
}

void ShardedWriter::create(const std::vector<DigestLine>& matrices, std::size_t text_bytes) {
  file_.emplace(create_partial(partial_, communicator_));
  if (communicator_.rank() == 0) reserve(partial_, most_bytes(matrices, text_bytes));
  for (const DigestLine& line : matrices) {
    file_->create_matrix(line.name, line.dtype, line.rows, line.cols);
    matrices_.emplace(line.name, Matrix{line});
  }
}

ShardedWriter::~ShardedWriter() {
  if (finished_) return;
  file_.reset();
  ::unlink(partial_.c_str());
}

void ShardedWriter::write(const std::string& name, const dist::AxisCut& rows, const dist::AxisCut& cols,
                          kernels::ConstMatrix from) {
  const auto found = matrices_.find(name);
  if (found == matrices_.end()) fail(Failure::other, text(path_, ": ", name, " is not among the tensors announced"));
  file_->write(name, rows, cols, from);
  found->second.line.digest += digest_of(from, rows, cols);
  found->second.written += static_cast<double>(from.count());
}

Digest ShardedWriter::finish(const std::string& preamble) {
  sum_over_ranks();
  std::vector<DigestLine> lines;
  for (const auto& [name, matrix] : matrices_) {
    file_->set_text(name, "digest", matrix.line.digest.hex());
    lines.push_back(matrix.line);
  }
  const Digest digest = digest_of(preamble, std::move(lines));
  file_->set_text("/", "digest", digest.hex());
  file_->close();
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

// Every rank brings to the disk what its own host still holds; only then may the name appear.
void ShardedWriter::publish() {
  // What was reserved and not needed goes back.
  if (communicator_.rank() == 0 && ::truncate(partial_.c_str(), static_cast<off_t>(fs::file_size(partial_))) != 0)
    fail_system(partial_, "write");
  synchronize(partial_, "flush to the disk");
  communicator_.barrier();
  if (communicator_.rank() == 0) {
    if (std::rename(partial_.c_str(), path_.c_str()) != 0) fail_system(path_, "put the new file in its place");
    const fs::path directory = fs::path(path_).parent_path();
    synchronize(directory.empty() ? "." : directory.string(), "flush to the disk");
  }
  finished_ = true;
  communicator_.barrier();
}

}  // namespace lorashard::core
