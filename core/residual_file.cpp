#include "core/residual_file.hpp"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/quote.hpp"

namespace lorashard::core {
namespace {

using dist::AxisCut;
using kernels::fail;
using kernels::Failure;
using kernels::Matrix;
using kernels::text;

constexpr const char* kFormat = "lorashard residual 1";
constexpr Index kPiece = Index{1} << 20;  // elements

std::string dataset_of(const std::string& tensor) { return "tensors/" + tensor; }

std::string preamble_of(const Digest& base, const Digest& merged) {
  return text(kFormat, "\n", base.hex(), "\n", merged.hex());
}

Digest read_digest(const H5File& file, const char* attribute) {
  const std::string hex = file.text("/", attribute);
  try {
    return Digest::from_hex(hex);
  } catch (const kernels::Error& error) {
    fail(error.failure(), text(file.path(), ": ", attribute, ": ", error.what()));
  }
}

// Host memory for a piece of a file.
class PieceMemory {
 public:
  Matrix shaped(kernels::DType dtype, const AxisCut& rows, const AxisCut& cols) {
    const Index height = rows.local_extent(), width = cols.local_extent();
    memory_.resize(static_cast<std::size_t>(height * width * size_bytes(dtype)));
    return {memory_.data(), dtype, height, width, width};
  }

 private:
  std::vector<std::byte> memory_;
};

// to ^= with, byte by byte.
void change_bits(Matrix to, kernels::ConstMatrix with) {
  const Index row_bytes = to.cols * size_bytes(to.dtype);
  for (Index i = 0; i < to.rows; ++i) {
    std::byte* bits = to.row_range(i, 1).data;
    const std::byte* change = with.row_range(i, 1).data;
    for (Index j = 0; j < row_bytes; ++j) bits[j] ^= change[j];
  }
}

DigestLine write_tensor(H5File& file, const TensorInfo& tensor, const BaseFile& base, const BaseFile& merged) {
  const kernels::DType dtype = base.dtype(tensor);
  const std::string name = dataset_of(tensor.name);
  DigestLine line{name, dtype, tensor.rows, tensor.cols, {}};
  file.create_matrix(name, dtype, tensor.rows, tensor.cols);
  const AxisCut cols = AxisCut::whole(tensor.cols);
  PieceMemory memory, other_memory;
  for_each_rows(tensor, [&](const AxisCut& rows) {
    const Matrix bits = memory.shaped(dtype, rows, cols), other = other_memory.shaped(dtype, rows, cols);
    base.read(tensor, rows, cols, bits);
    merged.read(tensor, rows, cols, other);
    change_bits(bits, other);
    file.write(name, rows, cols, bits);
    line.digest += digest_of(bits, rows, cols);
  });
  file.set_text(name, "digest", line.digest.hex());
  return line;
}

void write_partial(const std::string& path, const BaseFile& base, const BaseFile& merged,
                   const std::function<void()>& after_each) {
  H5File file = H5File::create(path, H5File::Packing::deflated);
  file.set_text("/", "format", kFormat);
  file.set_text("/", "base", base.digest().hex());
  file.set_text("/", "merged", merged.digest().hex());
  std::vector<DigestLine> lines;
  for (const TensorInfo& tensor : tensor_table(base.shape())) {
    if (base.digest(tensor) == merged.digest(tensor)) continue;
    lines.push_back(write_tensor(file, tensor, base, merged));
    after_each();
  }
  file.set_text("/", "digest", digest_of(preamble_of(base.digest(), merged.digest()), std::move(lines)).hex());
  file.close();
}

}  // namespace

void for_each_rows(const TensorInfo& tensor, const std::function<void(const AxisCut& rows)>& body) {
  const Index most = std::max<Index>(1, kPiece / tensor.cols);
  for (Index first = 0; first < tensor.rows; first += most)
    body(AxisCut::range({first}, std::min(most, tensor.rows - first), tensor.rows));
}

ResidualFile::ResidualFile(const std::string& path) : file_(H5File::open(path, H5File::Packing::deflated)) {
  const std::string format = file_.text("/", "format");
  if (format != kFormat)
    fail(Failure::storage, text(path, ": format: found ", in_quotes(format), ", expected '", kFormat, "'"));
  base_ = read_digest(file_, "base");
  merged_ = read_digest(file_, "merged");
  if (file_.exists("tensors")) names_ = file_.names("tensors");
  std::vector<DigestLine> lines;
  for (const std::string& name : names_) {
    const H5File::MatrixInfo info = file_.matrix_info(dataset_of(name));
    lines.push_back({dataset_of(name), info.dtype, info.rows, info.cols, stored_digest(file_, dataset_of(name))});
  }
  const Digest expected = stored_digest(file_, "/"), found = digest_of(preamble_of(base_, merged_), std::move(lines));
  if (found != expected)
    fail(Failure::storage,
         text(path, " is damaged: its contents' digest is ", found.hex(), ", expected ", expected.hex()));
}

bool ResidualFile::has(const TensorInfo& tensor) const {
  return std::binary_search(names_.begin(), names_.end(), tensor.name);
}

void ResidualFile::apply(const TensorInfo& tensor, const AxisCut& rows, const AxisCut& cols, Matrix m) const {
  if (!has(tensor)) fail(Failure::storage, text(path(), ": tensor '", tensor.name, "' is missing"));
  PieceMemory memory;
  const Matrix bits = memory.shaped(m.dtype, rows, cols);
  file_.read(dataset_of(tensor.name), rows, cols, bits);
  change_bits(m, bits);
}

void ResidualFile::verify(Index part, Index parts, const std::function<void()>& after_each) const {
  for (std::size_t i = static_cast<std::size_t>(part); i < names_.size(); i += static_cast<std::size_t>(parts)) {
    verify_matrix(file_, dataset_of(names_[i]));
    after_each();
  }
}

Index write_residual(const std::string& path, const BaseFile& base, const BaseFile& merged,
                     const std::function<void()>& after_each) {
  const std::string partial = path + ".partial";
  try {
    write_partial(partial, base, merged, after_each);
    ResidualFile(partial).verify(0, 1, after_each);
    put_in_place(partial, path);
  } catch (...) {
    ::unlink(partial.c_str());
    throw;
  }
  return static_cast<Index>(std::filesystem::file_size(path));
}

}  // namespace lorashard::core
