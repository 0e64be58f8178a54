#include "core/import.hpp"

#include <algorithm>
#include <boost/regex.hpp>
#include <filesystem>
#include <set>

#include "core/base_file.hpp"
#include "core/foreign_config.hpp"
#include "core/foreign_names.hpp"
#include "core/llama2c_file.hpp"
#include "core/quote.hpp"
#include "core/safetensors.hpp"
#include "core/turned.hpp"
#include "kernels/numbers.hpp"

namespace lorashard::core {
namespace {

namespace fs = std::filesystem;
using dist::AxisCut;
using kernels::DType;
using kernels::fail;
using kernels::Failure;
using kernels::text;

[[noreturn]] void refuse(const std::string& path, const std::string& problem) {
  fail(Failure::configuration, text(path, ": ", problem));
}

// Named tensors of a model, wherever they are stored.
class Source {
 public:
  virtual ~Source() = default;
  virtual const ModelShape& shape() const = 0;
  virtual const std::string& path() const = 0;
  // As foreign_parts() has them; stored() is what the file calls one.
  virtual std::vector<std::string> names() const = 0;
  virtual std::string stored(const std::string& name) const { return name; }
  // Throws when there is no such tensor.
  virtual std::vector<Index> extents(const std::string& name) const = 0;
  // Elements [first, first + count) in storage order; NaN and infinity are refused.
  virtual std::vector<float> read(const std::string& name, Index first, Index count) const = 0;

  bool has(const std::string& name) const {
    const std::vector<std::string> all = names();
    return std::find(all.begin(), all.end(), name) != all.end();
  }
};

class HuggingFaceSource final : public Source {
 public:
  explicit HuggingFaceSource(const std::string& directory)
      : shape_(read_foreign_config((fs::path(directory) / "config.json").string())),
        tensors_(SafeTensors::open(weights_of(directory))),
        prefix_(tensors_.has("transformer.wte.weight") ? "transformer." : "") {}

  const ModelShape& shape() const override { return shape_; }
  const std::string& path() const override { return tensors_.path(); }
  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, entry] : tensors_.entries())
      names.push_back(name.starts_with(prefix_) ? name.substr(prefix_.size()) : name);
    return names;
  }
  std::string stored(const std::string& name) const override { return name == "lm_head.weight" ? name : prefix_ + name; }
  std::vector<Index> extents(const std::string& name) const override { return tensors_.entry(stored(name)).extents; }
  std::vector<float> read(const std::string& name, Index first, Index count) const override {
    return tensors_.read_finite(stored(name), first, count);
  }

 private:
  static std::string weights_of(const std::string& directory) {
    const fs::path one = fs::path(directory) / "model.safetensors",
                   many = fs::path(directory) / "model.safetensors.index.json";
    if (fs::exists(one) || fs::exists(many)) return (fs::exists(one) ? one : many).string();
    refuse(directory, "found neither model.safetensors nor model.safetensors.index.json");
  }
  ModelShape shape_;
  SafeTensors tensors_;
  std::string prefix_;
};

class Llama2cSource final : public Source {
 public:
  explicit Llama2cSource(const std::string& path) : file_(path) {}
  const ModelShape& shape() const override { return file_.shape(); }
  const std::string& path() const override { return file_.path(); }
  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, extents] : file_.extents()) names.push_back(name);
    return names;
  }
  std::vector<Index> extents(const std::string& name) const override { return file_.extents().at(name); }
  std::vector<float> read(const std::string& name, Index first, Index count) const override {
    return file_.read_finite(name, first, count);
  }

 private:
  Llama2cFile file_;
};

std::unique_ptr<Source> open_source(const std::string& from) {
  std::error_code ignored;
  if (from.ends_with(".bin") && !fs::is_directory(from, ignored)) return std::make_unique<Llama2cSource>(from);
  return std::make_unique<HuggingFaceSource>(from);
}

void check_part(const Source& source, const TensorInfo& tensor, const ForeignPart& part) {
  const std::vector<Index> found = source.extents(part.name);
  std::vector<Index> expected = {part.count, tensor.cols};
  if (part.turned) std::swap(expected[0], expected[1]);
  if (tensor.rows == 1) expected = {part.count};
  const bool one_row = tensor.rows == 1 && found == std::vector<Index>{1, part.count};
  if (found != expected && !one_row)
    refuse(source.path(), text("tensor ", in_quotes(source.stored(part.name)), ": found ", extents_text(found), ", expected ",
                               extents_text(expected), " as the model's shape has it"));
}

void check_all(const Source& source, const std::vector<TensorInfo>& table) {
  std::set<std::string> known{"lm_head.weight"};
  for (const TensorInfo& tensor : table)
    for (const ForeignPart& part : foreign_parts(tensor, source.shape())) {
      check_part(source, tensor, part);
      known.insert(part.name);
    }
  // Causal masks and frequencies, which old versions kept as buffers.
  static const boost::regex buffers(R"(h\.\d+\.attn\.(masked_)?bias|model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq)");
  for (const std::string& name : source.names())
    if (!known.count(name) && !boost::regex_match(name, buffers))
      refuse(source.path(), text("tensor ", in_quotes(source.stored(name)), " is none of a model of family ", source.shape().family,
                                 " with the shape that its configuration gives"));
}

// A tied head that is stored all the same must be the embedding.
void check_tied_head(const Source& source, const TensorInfo& table, Index piece_elements) {
  if (!source.shape().tied_head || !source.has("lm_head.weight")) return;
  const std::string embedding = foreign_parts(table, source.shape()).front().name;
  if (source.extents("lm_head.weight") != source.extents(embedding))
    refuse(source.path(), text("lm_head.weight has other extents than ", source.stored(embedding), ", expected a tied head"));
  const Index count = table.rows * table.cols;
  for (Index first = 0; first < count; first += piece_elements) {
    const Index some = std::min(piece_elements, count - first);
    if (source.read(embedding, first, some) != source.read("lm_head.weight", first, some))
      refuse(source.path(), text("lm_head.weight differs from ", source.stored(embedding), ", expected a tied head"));
  }
}

void write_piece(BaseFileWriter& writer, const TensorInfo& tensor, const AxisCut& rows, const AxisCut& cols,
                 const std::vector<float>& values, DType dtype) {
  const Index height = rows.local_extent(), width = cols.local_extent();
  if (dtype == DType::f32) return writer.write(tensor, rows, cols, kernels::view(values.data(), height, width));
  std::vector<kernels::bf16> rounded(values.size());
  std::transform(values.begin(), values.end(), rounded.begin(), kernels::to_bf16);
  writer.write(tensor, rows, cols, kernels::view(rounded.data(), height, width));
}

// The stored tensor is read in blocks of its rows: rows of ours, or columns when it is turned.
void copy_part(const Source& from, BaseFileWriter& writer, const TensorInfo& tensor, const ForeignPart& part, DType dtype,
               Index piece_elements) {
  if (tensor.rows == 1) {
    const auto values = from.read(part.name, 0, part.count);
    return write_piece(writer, tensor, AxisCut::whole(1), AxisCut::range({part.first}, part.count, tensor.cols), values, dtype);
  }
  const Index stored_rows = part.turned ? tensor.cols : part.count;
  const Index stored_cols = part.turned ? part.count : tensor.cols;
  const Index most_rows = std::max<Index>(1, piece_elements / stored_cols);
  for (Index first = 0; first < stored_rows; first += most_rows) {
    const Index count = std::min(most_rows, stored_rows - first);
    const auto values = from.read(part.name, first * stored_cols, count * stored_cols);
    if (part.turned)
      write_piece(writer, tensor, AxisCut::range({part.first}, part.count, tensor.rows),
                  AxisCut::range({first}, count, tensor.cols), turned(values, count, stored_cols), dtype);
    else
      write_piece(writer, tensor, AxisCut::range({part.first + first}, count, tensor.rows), AxisCut::whole(tensor.cols),
                  values, dtype);
  }
}

}  // namespace

ImportReport import_base(const std::string& from, const std::string& to, DType dtype,
                         const std::function<void(Index, Index)>& progress, Index piece_elements) {
  const std::unique_ptr<Source> source = open_source(from);
  const std::vector<TensorInfo> table = tensor_table(source->shape());
  check_all(*source, table);
  check_tied_head(*source, find(table, "embedding.token"), piece_elements);
  const std::unique_ptr<kernels::Device> device = kernels::make_meta_device();
  const auto alone = dist::make_meta_communicator(*device, "import", 0, 1);
  BaseFileWriter writer(to, source->shape(), dtype, *alone);
  ImportReport report;
  report.shape = source->shape();
  for (const TensorInfo& tensor : table) {
    for (const ForeignPart& part : foreign_parts(tensor, source->shape()))
      copy_part(*source, writer, tensor, part, dtype, piece_elements);
    if (progress) progress(++report.tensors, static_cast<Index>(table.size()));
  }
  report.digest = writer.finish();
  report.tensors = static_cast<Index>(table.size());
  report.bytes = static_cast<Index>(fs::file_size(to));
  return report;
}

}  // namespace lorashard::core
