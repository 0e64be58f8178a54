// A base file as a Hugging Face model directory.
#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <filesystem>

#include "core/base_file.hpp"
#include "core/export.hpp"
#include "core/family.hpp"
#include "core/foreign_names.hpp"
#include "core/safetensors_writer.hpp"
#include "core/text_file.hpp"
#include "core/turned.hpp"
#include "kernels/numbers.hpp"

namespace lorashard::core {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using dist::AxisCut;
using kernels::DType;
using kernels::fail;
using kernels::Failure;
using kernels::text;

// The digits that a float needs, and no more.
double shortest(float value) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  double result = 0;
  std::from_chars(digits, end, result);
  return result;
}

json::object gpt2_config(const ModelShape& s) {
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"n_layer", s.layers},
          {"n_embd", s.width},
          {"n_head", s.heads},
          {"n_inner", s.ffn},
          {"n_positions", s.context},
          {"n_ctx", s.context},
          {"vocab_size", s.vocab},
          {"activation_function", "gelu_new"},
          {"layer_norm_epsilon", shortest(s.norm_eps)},
          {"tie_word_embeddings", s.tied_head}};
}

json::object scaling_config(const RopeShape& rope) {
  if (rope.scaling == RopeScaling::linear) return {{"rope_type", "linear"}, {"factor", rope.factor}};
  if (rope.scaling == RopeScaling::llama3)
    return {{"rope_type", "llama3"},
            {"factor", rope.factor},
            {"low_freq_factor", rope.low},
            {"high_freq_factor", rope.high},
            {"original_max_position_embeddings", rope.original_context}};
  json::object yarn{{"rope_type", "yarn"},
                    {"factor", rope.factor},
                    {"beta_slow", rope.low},
                    {"beta_fast", rope.high},
                    {"original_max_position_embeddings", rope.original_context}};
  if (rope.attention_factor != 0) yarn["attention_factor"] = rope.attention_factor;
  return yarn;
}

// The member of the family that has what the shape has.
const char* llama_member(const ModelShape& s, const std::string& path) {
  if (s.qkv_bias && s.qk_norm)
    fail(Failure::configuration, text(path, ": found qkv_bias and qk_norm, expected one of them: no model type has both"));
  if (s.qkv_bias) return "qwen2";
  if (s.qk_norm) return "qwen3";
  return s.window != 0 ? "mistral" : "llama";
}

json::object llama_config(const ModelShape& s, const std::string& path) {
  const std::string type = llama_member(s, path);
  std::string name = type;
  name[0] = static_cast<char>(name[0] - 'a' + 'A');
  json::object config{{"architectures", {name + "ForCausalLM"}},
                      {"model_type", type},
                      {"num_hidden_layers", s.layers},
                      {"hidden_size", s.width},
                      {"num_attention_heads", s.heads},
                      {"num_key_value_heads", s.kv_heads},
                      {"head_dim", s.head_size()},
                      {"intermediate_size", s.ffn},
                      {"max_position_embeddings", s.context},
                      {"vocab_size", s.vocab},
                      {"hidden_act", "silu"},
                      {"rms_norm_eps", shortest(s.norm_eps)},
                      {"rope_theta", s.rope.theta},
                      {"tie_word_embeddings", s.tied_head}};
  if (s.rope.scaling != RopeScaling::none) config["rope_scaling"] = scaling_config(s.rope);
  if (type == "llama" || type == "qwen3") config["attention_bias"] = false;
  if (type == "mistral") config["sliding_window"] = s.window;
  if (type[0] == 'q') {
    config["use_sliding_window"] = s.window != 0;
    config["max_window_layers"] = s.window != 0 ? 0 : s.layers;
    if (s.window != 0) config["sliding_window"] = s.window;
  }
  return config;
}

json::object config_of(const ModelShape& shape, DType dtype, const std::string& path) {
  json::object config = family_of(shape).rotary ? llama_config(shape, path) : gpt2_config(shape);
  config["torch_dtype"] = dtype == DType::f32 ? "float32" : "bfloat16";
  return config;
}

// One tensor of theirs, and where it comes from.
struct Piece {
  TensorInfo tensor;
  ForeignPart part;
  NewTensor made;
};

std::vector<Piece> pieces_of(const BaseFile& base) {
  const ModelShape& shape = base.shape();
  const std::string prefix = family_of(shape).rotary ? "" : "transformer.";
  std::vector<Piece> pieces;
  for (const TensorInfo& tensor : tensor_table(shape))
    for (const ForeignPart& part : foreign_parts(tensor, shape)) {
      std::vector<Index> extents = {part.count, tensor.cols};
      if (part.turned) std::swap(extents[0], extents[1]);
      if (tensor.rows == 1) extents = {part.count};
      const std::string name = part.name == "lm_head.weight" ? part.name : prefix + part.name;
      pieces.push_back({tensor, part, {name, base.dtype(tensor), extents}});
    }
  return pieces;
}

// Rows of theirs that follow each other, as many as fit.
template <class Number>
class Copier {
 public:
  Copier(const BaseFile& base, SafeTensorsWriter& writer, Index piece_elements)
      : base_(base), writer_(writer), piece_elements_(piece_elements) {}

  void copy(const Piece& piece) const {
    const TensorInfo& tensor = piece.tensor;
    const ForeignPart& part = piece.part;
    const AxisCut rows = tensor.rows == 1 ? AxisCut::whole(1) : AxisCut::range({part.first}, part.count, tensor.rows);
    if (part.turned) {
      const Index step = std::max<Index>(1, piece_elements_ / part.count);
      for (Index first = 0; first < tensor.cols; first += step) {
        const Index count = std::min(step, tensor.cols - first);
        put(turned(read(tensor, rows, AxisCut::range({first}, count, tensor.cols)), part.count, count));
      }
      return;
    }
    if (tensor.rows == 1)
      return put(ordered(part, read(tensor, rows, AxisCut::range({part.first}, part.count, tensor.cols)), 1));
    const Index unit = base_.shape().head_size();  // whole heads
    const Index step = std::max<Index>(1, piece_elements_ / tensor.cols / unit) * unit;
    for (Index first = 0; first < part.count; first += step) {
      const Index count = std::min(step, part.count - first);
      const AxisCut block = AxisCut::range({part.first + first}, count, tensor.rows);
      put(ordered(part, read(tensor, block, AxisCut::whole(tensor.cols)), tensor.cols));
    }
  }

 private:
  std::vector<Number> read(const TensorInfo& tensor, const AxisCut& rows, const AxisCut& cols) const {
    std::vector<Number> values(static_cast<std::size_t>(rows.local_extent() * cols.local_extent()));
    base_.read(tensor, rows, cols, kernels::view(values.data(), rows.local_extent(), cols.local_extent()));
    return values;
  }

  std::vector<Number> ordered(const ForeignPart& part, std::vector<Number> values, Index cols) const {
    if (!part.rotary || !base_.shape().rope.neighbours) return values;
    return neighbours_to_halves(values, cols, base_.shape().head_size());
  }

  void put(const std::vector<Number>& values) const { writer_.write(std::as_bytes(std::span(values))); }

  const BaseFile& base_;
  SafeTensorsWriter& writer_;
  Index piece_elements_;
};

// The pieces of each file.
std::vector<std::vector<Piece>> files_of(std::vector<Piece> pieces, Index file_bytes) {
  std::vector<std::vector<Piece>> files(1);
  Index bytes = 0;
  for (Piece& piece : pieces) {
    if (!files.back().empty() && bytes + piece.made.bytes() > file_bytes) {
      files.emplace_back();
      bytes = 0;
    }
    bytes += piece.made.bytes();
    files.back().push_back(std::move(piece));
  }
  return files;
}

std::string file_name(std::size_t number, std::size_t count) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", number + 1, count);
  return name;
}

}  // namespace

ExportReport export_base(const std::string& from, const std::string& to, const std::function<void(Index, Index)>& progress,
                         Index piece_elements, Index file_bytes) {
  const BaseFile base(from);
  const auto files = files_of(pieces_of(base), file_bytes);
  const json::object config = config_of(base.shape(), files[0][0].made.dtype, from);
  if (fs::exists(fs::path(to) / "config.json")) fail(Failure::configuration, text(to, ": found a model there, expected a new directory"));
  fs::create_directories(to);
  Index total = 0;
  for (const auto& file : files) total += static_cast<Index>(file.size());
  ExportReport report{base.shape().family + " model", 0, 0, static_cast<Index>(files.size())};
  json::object map;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const std::string name = file_name(i, files.size());
    std::vector<NewTensor> tensors;
    for (const Piece& piece : files[i]) {
      tensors.push_back(piece.made);
      map[piece.made.name] = name;
      report.bytes += piece.made.bytes();
    }
    SafeTensorsWriter writer((fs::path(to) / name).string(), tensors);
    for (const Piece& piece : files[i]) {
      if (piece.made.dtype == DType::f32)
        Copier<float>(base, writer, piece_elements).copy(piece);
      else
        Copier<kernels::bf16>(base, writer, piece_elements).copy(piece);
      if (progress) progress(++report.tensors, total);
    }
    writer.finish();
  }
  report.tensors = total;
  if (files.size() > 1)
    write_whole((fs::path(to) / "model.safetensors.index.json").string(),
                json::serialize(json::object{{"metadata", {{"total_size", report.bytes}}}, {"weight_map", map}}) + "\n");
  write_whole((fs::path(to) / "config.json").string(), json::serialize(config) + "\n");
  return report;
}

}  // namespace lorashard::core
