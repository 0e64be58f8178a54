#include "core/base_file.hpp"

#include <algorithm>

#include "core/quote.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;

constexpr const char* kFormat = "lorashard base 1";

std::string dataset_of(const std::string& tensor) { return "tensors/" + tensor; }

[[noreturn]] void refuse(const std::string& path, const std::string& problem) {
  fail(Failure::configuration, text(path, ": ", problem));
}

// The limits are far above any model; below them no product of two extents overflows and the tensor table stays small.
Index extent(const H5File& file, const char* attribute, Index most) {
  const std::int64_t value = file.integer("/", attribute);
  if (value < 1 || value > most) refuse(file.path(), text(attribute, ": found ", value, ", expected 1 to ", most));
  return value;
}

ModelShape read_shape(const H5File& file) {
  const std::string format = file.text("/", "format");
  if (format != kFormat) refuse(file.path(), text("format: found ", in_quotes(format), ", expected '", kFormat, "'"));
  ModelShape shape;
  shape.family = file.text("/", "family");
  shape.layers = extent(file, "layers", 10'000);
  shape.width = extent(file, "width", 1 << 20);
  shape.heads = extent(file, "heads", shape.width);
  shape.kv_heads = extent(file, "kv_heads", shape.heads);
  shape.ffn = extent(file, "ffn", 1 << 22);
  shape.vocab = extent(file, "vocab", 1 << 24);
  shape.context = extent(file, "context", 1 << 24);
  const std::int64_t tied = file.integer("/", "tied_head");
  const double eps = file.real("/", "norm_eps");
  if (shape.family != "gpt2") refuse(file.path(), text("family: found ", in_quotes(shape.family), ", expected 'gpt2'"));
  if (shape.width % shape.heads != 0)
    refuse(file.path(), text("heads: found ", shape.heads, ", which does not divide width ", shape.width));
  if (shape.heads % shape.kv_heads != 0)
    refuse(file.path(), text("kv_heads: found ", shape.kv_heads, ", which does not divide heads ", shape.heads));
  if (tied != 0 && tied != 1) refuse(file.path(), text("tied_head: found ", tied, ", expected 0 or 1"));
  if (!(eps > 0 && eps < 1)) refuse(file.path(), text("norm_eps: found ", eps, ", expected a number between 0 and 1"));
  shape.tied_head = tied == 1;
  shape.norm_eps = static_cast<float>(eps);
  return shape;
}

std::string preamble_of(const ModelShape& s) {
  const Digest eps = digest_of(&s.norm_eps, sizeof s.norm_eps);  // its bits, not its digits
  return text(kFormat, " ", s.family, " ", s.layers, " ", s.width, " ", s.heads, " ", s.kv_heads, " ", s.ffn, " ",
              s.vocab, " ", s.context, " ", s.tied_head, " ", eps.hex());
}

DigestLine read_line(const H5File& file, const TensorInfo& tensor) {
  const std::string name = dataset_of(tensor.name);
  if (!file.exists(name))
    refuse(file.path(), text("tensor '", tensor.name, "' is missing, expected ", tensor.rows, "x", tensor.cols));
  const H5File::MatrixInfo info = file.matrix_info(name);
  if (info.rows != tensor.rows || info.cols != tensor.cols)
    refuse(file.path(), text("tensor '", tensor.name, "': found ", info.rows, "x", info.cols, ", expected ",
                             tensor.rows, "x", tensor.cols));
  return {name, info.dtype, info.rows, info.cols, stored_digest(file, name)};
}

void refuse_unknown(const H5File& file, const std::vector<TensorInfo>& table) {
  for (const std::string& name : file.names("tensors"))
    if (std::none_of(table.begin(), table.end(), [&](const TensorInfo& tensor) { return tensor.name == name; }))
      refuse(file.path(), text("tensor ", in_quotes(name), " is none of this model's"));
}

std::vector<DigestLine> lines_of(const ModelShape& shape, kernels::DType dtype) {
  std::vector<DigestLine> lines;
  for (const TensorInfo& tensor : tensor_table(shape))
    lines.push_back({dataset_of(tensor.name), dtype, tensor.rows, tensor.cols, {}});
  return lines;
}

}  // namespace

BaseFile::BaseFile(const std::string& path) : file_(H5File::open(path)), shape_(read_shape(file_)) {
  const std::vector<TensorInfo> table = tensor_table(shape_);
  std::vector<DigestLine> lines;
  for (const TensorInfo& tensor : table) lines.push_back(read_line(file_, tensor));
  if (file_.names("tensors").size() != table.size()) refuse_unknown(file_, table);
  digest_ = stored_digest(file_, "/");
  const Digest found = digest_of(preamble_of(shape_), std::move(lines));
  if (found != digest_)
    fail(Failure::storage,
         text(path, " is damaged: its contents' digest is ", found.hex(), ", expected ", digest_.hex()));
}

kernels::DType BaseFile::dtype(const TensorInfo& tensor) const {
  return file_.matrix_info(dataset_of(tensor.name)).dtype;
}

Digest BaseFile::digest(const TensorInfo& tensor) const { return stored_digest(file_, dataset_of(tensor.name)); }

void BaseFile::read(const TensorInfo& tensor, const dist::AxisCut& rows, const dist::AxisCut& cols,
                    kernels::Matrix to) const {
  file_.read(dataset_of(tensor.name), rows, cols, to);
}

void BaseFile::verify(Index part, Index parts, const std::function<void()>& after_each) const {
  const std::vector<TensorInfo> table = tensor_table(shape_);
  for (std::size_t i = part; i < table.size(); i += parts) {
    verify_matrix(file_, dataset_of(table[i].name));
    after_each();
  }
}

BaseFileWriter::BaseFileWriter(const std::string& path, const ModelShape& shape, kernels::DType dtype,
                               dist::Communicator& communicator)
    : shape_(shape), writer_(path, communicator, lines_of(shape, dtype), 0) {
  H5File* const file = writer_.file();
  if (!file) return;
  file->set_text("/", "format", kFormat);
  file->set_text("/", "family", shape.family);
  const std::pair<const char*, Index> extents[] = {
      {"layers", shape.layers}, {"width", shape.width}, {"heads", shape.heads},     {"kv_heads", shape.kv_heads},
      {"ffn", shape.ffn},       {"vocab", shape.vocab}, {"context", shape.context}, {"tied_head", shape.tied_head}};
  for (const auto& [name, value] : extents) file->set_integer("/", name, value);
  file->set_real("/", "norm_eps", shape.norm_eps);
}

void BaseFileWriter::write(const TensorInfo& tensor, const dist::AxisCut& rows, const dist::AxisCut& cols,
                           kernels::ConstMatrix from) {
  writer_.write(dataset_of(tensor.name), rows, cols, from);
}

Digest BaseFileWriter::finish() {
  writer_.prove();
  return writer_.finish(preamble_of(shape_));
}

}  // namespace lorashard::core
