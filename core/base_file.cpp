#include "core/base_file.hpp"

#include <algorithm>

#include "core/family.hpp"
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

double number(const H5File& file, const char* attribute, double low, double high) {
  const double value = file.real("/", attribute);
  if (!(value >= low && value <= high))
    refuse(file.path(), text(attribute, ": found ", value, ", expected ", low, " to ", high));
  return value;
}

bool yes_or_no(const H5File& file, const char* attribute) {
  const std::int64_t value = file.integer("/", attribute);
  if (value != 0 && value != 1) refuse(file.path(), text(attribute, ": found ", value, ", expected 0 or 1"));
  return value == 1;
}

Index extent_or_none(const H5File& file, const char* attribute, Index most) {
  const std::int64_t value = file.integer("/", attribute);
  if (value < 0 || value > most) refuse(file.path(), text(attribute, ": found ", value, ", expected 0 to ", most));
  return value;
}

constexpr std::pair<RopeScaling, const char*> kScalings[] = {
    {RopeScaling::none, "none"}, {RopeScaling::linear, "linear"}, {RopeScaling::llama3, "llama3"}, {RopeScaling::yarn, "yarn"}};

const char* scaling_name(RopeScaling scaling) {
  for (const auto& [value, name] : kScalings)
    if (value == scaling) return name;
  return "";
}

// What the llama family's members differ in.
void read_llama(const H5File& file, ModelShape& shape) {
  constexpr double kLargest = 1e12;
  shape.own_head_size = extent_or_none(file, "head_size", 1 << 16);
  shape.qkv_bias = yes_or_no(file, "qkv_bias");
  shape.qk_norm = yes_or_no(file, "qk_norm");
  shape.window = extent_or_none(file, "window", 1 << 24);
  RopeShape& rope = shape.rope;
  rope.theta = number(file, "rope_theta", 1e-3, kLargest);
  const std::string scaling = file.text("/", "rope_scaling");
  const auto found = std::find_if(std::begin(kScalings), std::end(kScalings), [&](const auto& s) { return scaling == s.second; });
  if (found == std::end(kScalings))
    refuse(file.path(), text("rope_scaling: found ", in_quotes(scaling), ", expected none, linear, llama3 or yarn"));
  rope.scaling = found->first;
  rope.factor = number(file, "rope_factor", 1e-3, kLargest);
  rope.low = number(file, "rope_low", 1e-9, kLargest);
  rope.high = number(file, "rope_high", 1e-9, kLargest);
  rope.attention_factor = number(file, "rope_attention_factor", 0, kLargest);
  rope.original_context = extent_or_none(file, "rope_original_context", 1 << 24);
  rope.neighbours = yes_or_no(file, "rope_neighbours");
}

void write_llama(H5File& file, const ModelShape& shape) {
  const RopeShape& rope = shape.rope;
  const std::pair<const char*, Index> whole[] = {{"head_size", shape.own_head_size}, {"qkv_bias", shape.qkv_bias},
                                                 {"qk_norm", shape.qk_norm},         {"window", shape.window},
                                                 {"rope_original_context", rope.original_context},
                                                 {"rope_neighbours", rope.neighbours}};
  for (const auto& [name, value] : whole) file.set_integer("/", name, value);
  const std::pair<const char*, double> real[] = {{"rope_theta", rope.theta}, {"rope_factor", rope.factor},
                                                 {"rope_low", rope.low},     {"rope_high", rope.high},
                                                 {"rope_attention_factor", rope.attention_factor}};
  for (const auto& [name, value] : real) file.set_real("/", name, value);
  file.set_text("/", "rope_scaling", scaling_name(rope.scaling));
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
  if (family_of(shape).rotary) read_llama(file, shape);
  if (shape.own_head_size == 0 && shape.width % shape.heads != 0)
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
  const std::string common = text(kFormat, " ", s.family, " ", s.layers, " ", s.width, " ", s.heads, " ", s.kv_heads, " ",
                                  s.ffn, " ", s.vocab, " ", s.context, " ", s.tied_head, " ", eps.hex());
  if (!family_of(s).rotary) return common;
  const RopeShape& rope = s.rope;
  const double numbers[] = {rope.theta, rope.factor, rope.low, rope.high, rope.attention_factor};
  return text(common, " ", s.own_head_size, " ", s.qkv_bias, " ", s.qk_norm, " ", s.window, " ", scaling_name(rope.scaling), " ",
              rope.original_context, " ", rope.neighbours, " ", digest_of(numbers, sizeof numbers).hex());
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

std::string hex_of(const H5File& file, const char* attribute) {
  const std::string hex = file.text("/", attribute);
  try {
    return Digest::from_hex(hex).hex();
  } catch (const kernels::Error& error) {
    fail(error.failure(), text(file.path(), ": ", attribute, ": ", error.what()));
  }
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
  if (found != digest_) {
    verify();  // names the tensor, if it is one
    fail(Failure::storage,
         text(path, " is damaged: its contents' digest is ", found.hex(), ", expected ", digest_.hex()));
  }
  if (file_.has_attribute("/", "merged_base"))
    merged_from_ = {hex_of(file_, "merged_base"), hex_of(file_, "merged_adapter")};
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
  if (family_of(shape).rotary) write_llama(*file, shape);
}

void BaseFileWriter::write(const TensorInfo& tensor, const dist::AxisCut& rows, const dist::AxisCut& cols,
                           kernels::ConstMatrix from) {
  writer_.write(dataset_of(tensor.name), rows, cols, from);
}

void BaseFileWriter::set_merged_from(const MergedFrom& from) {
  H5File* const file = writer_.file();
  if (!file) return;
  file->set_text("/", "merged_base", from.base);
  file->set_text("/", "merged_adapter", from.adapter);
}

Digest BaseFileWriter::finish(const std::optional<Digest>& expected) {
  writer_.prove();
  return writer_.finish(preamble_of(shape_), expected);
}

}  // namespace lorashard::core
