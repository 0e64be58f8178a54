#include "core/import.hpp"

#include <algorithm>
#include <boost/regex.hpp>
#include <filesystem>
#include <set>

#include "core/base_file.hpp"
#include "core/gpt2_modules.hpp"
#include "core/json_file.hpp"
#include "core/quote.hpp"
#include "core/safetensors.hpp"
#include "kernels/numbers.hpp"

namespace lorashard::core {
namespace {

namespace fs = std::filesystem;
using dist::AxisCut;
using kernels::DType;
using kernels::fail;
using kernels::Failure;
using kernels::text;

// Where a tensor of the table comes from. Hugging Face's Conv1D keeps its weight (in, out).
struct Source {
  std::string name;
  bool turned = false;
};

[[noreturn]] void refuse(const std::string& path, const std::string& problem) {
  fail(Failure::configuration, text(path, ": ", problem));
}

void expect_flag(const JsonFields& config, const char* key, bool expected) {
  if (config.flag(key, expected) != expected) config.refuse(key, expected ? "true" : "false");
}

ModelShape read_shape(const JsonFields& config) {
  if (config.text("model_type") != "gpt2") config.refuse("model_type", "'gpt2'");
  const auto* activation = config.find("activation_function");
  if (activation && *activation != "gelu_new" && *activation != "gelu_pytorch_tanh")
    config.refuse("activation_function", "'gelu_new' or 'gelu_pytorch_tanh'");
  expect_flag(config, "scale_attn_weights", true);
  expect_flag(config, "scale_attn_by_inverse_layer_idx", false);
  expect_flag(config, "reorder_and_upcast_attn", false);
  expect_flag(config, "add_cross_attention", false);
  if (config.find("quantization_config"))
    config.refuse("quantization_config", "nothing: quantized weights are not read");
  ModelShape shape;
  shape.layers = config.integer("n_layer", 1, 10'000);
  shape.width = config.integer("n_embd", 1, 1 << 20);
  shape.heads = shape.kv_heads = config.integer("n_head", 1, shape.width);
  shape.ffn = config.integer("n_inner", 1, 1 << 22, 4 * shape.width);
  shape.vocab = config.integer("vocab_size", 1, 1 << 24);
  shape.context = config.integer("n_positions", 1, 1 << 24);
  shape.tied_head = config.flag("tie_word_embeddings", true);
  if (shape.width % shape.heads != 0) config.refuse("n_head", text("a divisor of n_embd, ", shape.width));
  if (config.find("layer_norm_epsilon")) shape.norm_eps = static_cast<float>(config.real("layer_norm_epsilon"));
  if (!(shape.norm_eps > 0 && shape.norm_eps < 1)) config.refuse("layer_norm_epsilon", "a number between 0 and 1");
  return shape;
}

// "layers.3.mlp.up.weight" -> "h.3.mlp.c_fc.weight", turned.
Source source_of(const TensorInfo& tensor, const ModelShape& shape, const std::string& prefix) {
  if (tensor.name == "embedding.token") return {prefix + "wte.weight"};
  if (tensor.name == "embedding.position") return {prefix + "wpe.weight"};
  if (tensor.name == "head.weight") return {"lm_head.weight"};
  const auto ending = tensor.name.substr(tensor.name.rfind('.'));  // ".weight" or ".bias"
  const std::string block = text(prefix, "h.", tensor.layer, ".");
  if (tensor.layer < 0) return {prefix + "ln_f" + ending};
  if (tensor.name.find(".norm1.") != std::string::npos) return {block + "ln_1" + ending};
  if (tensor.name.find(".norm2.") != std::string::npos) return {block + "ln_2" + ending};
  for (const Gpt2Module& module : gpt2_modules(shape))
    if (tensor.name == text("layers.", tensor.layer, ".", module.ours, ending))
      return {text(block, module.foreign, ending), ending == ".weight"};
  fail(Failure::other, text("import knows no source for tensor ", tensor.name));
}

std::string weights_of(const std::string& directory) {
  const fs::path one = fs::path(directory) / "model.safetensors",
                 many = fs::path(directory) / "model.safetensors.index.json";
  if (fs::exists(one) || fs::exists(many)) return (fs::exists(one) ? one : many).string();
  refuse(directory, "found neither model.safetensors nor model.safetensors.index.json");
}

// A Hugging Face model, checked against its own config.
class Gpt2Source {
 public:
  explicit Gpt2Source(const std::string& directory)
      : config_path_((fs::path(directory) / "config.json").string()),
        config_(read_json_object(config_path_)),
        shape_(read_shape({config_, config_path_})),
        tensors_(SafeTensors::open(weights_of(directory))),
        prefix_(tensors_.has("transformer.wte.weight") ? "transformer." : "") {
    std::set<std::string> known;
    for (const TensorInfo& tensor : tensor_table(shape_)) known.insert(check(tensor));
    refuse_unknown(known);
  }

  const ModelShape& shape() const { return shape_; }

  // Elements [first, first + count) of the stored tensor, in storage order.
  std::vector<float> read(const std::string& name, Index first, Index count) const {
    return tensors_.read_finite(name, first, count);
  }
  Source source(const TensorInfo& tensor) const { return source_of(tensor, shape_, prefix_); }

  // A tied head that is stored all the same must be the embedding.
  void check_tied_head(Index piece_elements) const {
    if (!shape_.tied_head || !tensors_.has("lm_head.weight")) return;
    const std::string embedding = prefix_ + "wte.weight";
    const Index count = tensors_.entry(embedding).count();
    if (tensors_.entry("lm_head.weight").count() != count)
      refuse(tensors_.path(), text("lm_head.weight has other extents than ", embedding, ", expected a tied head"));
    for (Index first = 0; first < count; first += piece_elements) {
      const Index some = std::min(piece_elements, count - first);
      if (read(embedding, first, some) != read("lm_head.weight", first, some))
        refuse(tensors_.path(), text("lm_head.weight differs from ", embedding, ", expected a tied head"));
    }
  }

 private:
  std::string check(const TensorInfo& tensor) const {
    const Source source = this->source(tensor);
    const auto& found = tensors_.entry(source.name).extents;
    std::vector<Index> expected = {tensor.rows, tensor.cols};
    if (source.turned) std::swap(expected[0], expected[1]);
    if (tensor.rows == 1 && found.size() == 1) expected.erase(expected.begin());
    if (found != expected)
      refuse(tensors_.path(), text("tensor ", in_quotes(source.name), ": found ", extents(found), ", expected ",
                                   extents(expected), " as config.json has it"));
    return source.name;
  }

  void refuse_unknown(const std::set<std::string>& known) const {
    // Causal masks, which old versions kept as buffers.
    static const boost::regex buffers(R"((transformer\.)?h\.\d+\.attn\.(masked_)?bias)");
    for (const auto& [name, entry] : tensors_.entries()) {
      if (known.count(name) || name == "lm_head.weight" || boost::regex_match(name, buffers)) continue;
      refuse(tensors_.path(), text("tensor ", in_quotes(name), " is none of a GPT-2 model's as config.json has it"));
    }
  }

  static std::string extents(const std::vector<Index>& sizes) {
    std::string out;
    for (const Index n : sizes) out += (out.empty() ? "" : "x") + std::to_string(n);
    return out.empty() ? "a scalar" : out;
  }

  std::string config_path_;
  boost::json::object config_;
  ModelShape shape_;
  SafeTensors tensors_;
  std::string prefix_;
};

// (rows, cols) -> (cols, rows), in squares that stay in cache.
std::vector<float> turned(const std::vector<float>& from, Index rows, Index cols) {
  constexpr Index kSquare = 32;
  std::vector<float> to(from.size());
  for (Index i0 = 0; i0 < rows; i0 += kSquare)
    for (Index j0 = 0; j0 < cols; j0 += kSquare)
      for (Index i = i0; i < std::min(rows, i0 + kSquare); ++i)
        for (Index j = j0; j < std::min(cols, j0 + kSquare); ++j)
          to[static_cast<std::size_t>(j * rows + i)] = from[static_cast<std::size_t>(i * cols + j)];
  return to;
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
void copy(const Gpt2Source& from, BaseFileWriter& writer, const TensorInfo& tensor, DType dtype, Index piece_elements) {
  const Source source = from.source(tensor);
  const Index stored_rows = source.turned ? tensor.cols : tensor.rows;
  const Index stored_cols = source.turned ? tensor.rows : tensor.cols;
  const Index most_rows = std::max<Index>(1, piece_elements / stored_cols);
  const int parts = static_cast<int>((stored_rows + most_rows - 1) / most_rows);
  for (int part = 0; part < parts; ++part) {
    const AxisCut block({stored_rows}, part, parts), whole = AxisCut::whole(stored_cols);
    const Index first = block.to_global({0}).value, count = block.local_extent();
    const auto values = from.read(source.name, first * stored_cols, count * stored_cols);
    if (source.turned)
      write_piece(writer, tensor, whole, block, turned(values, count, stored_cols), dtype);
    else
      write_piece(writer, tensor, block, whole, values, dtype);
  }
}

}  // namespace

ImportReport import_base(const std::string& from, const std::string& to, DType dtype,
                         const std::function<void(Index, Index)>& progress, Index piece_elements) {
  const Gpt2Source source(from);
  source.check_tied_head(piece_elements);
  const std::unique_ptr<kernels::Device> device = kernels::make_meta_device();
  const auto alone = dist::make_meta_communicator(*device, "import", 0, 1);
  BaseFileWriter writer(to, source.shape(), dtype, *alone);
  const std::vector<TensorInfo> table = tensor_table(source.shape());
  ImportReport report;
  report.shape = source.shape();
  for (const TensorInfo& tensor : table) {
    copy(source, writer, tensor, dtype, piece_elements);
    if (progress) progress(++report.tensors, static_cast<Index>(table.size()));
  }
  report.digest = writer.finish();
  report.tensors = static_cast<Index>(table.size());
  report.bytes = static_cast<Index>(fs::file_size(to));
  return report;
}

}  // namespace lorashard::core
