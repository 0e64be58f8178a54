#include "core/llama2c_file.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/quote.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;

[[noreturn]] void refuse(const std::string& path, const std::string& problem) {
  fail(Failure::configuration, text(path, ": ", problem));
}

constexpr std::size_t kHeader_bytes = 7 * sizeof(std::int32_t);

ModelShape read_header(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::array<std::int32_t, 7> header{};
  file.read(reinterpret_cast<char*>(header.data()), kHeader_bytes);
  if (!file) refuse(path, "cannot be read, or is shorter than the header of a llama2.c model");
  const auto field = [&](int i, const char* name, std::int64_t most) {
    const std::int64_t value = header[static_cast<std::size_t>(i)];
    if (value < 1 || value > most)
      refuse(path, text(name, ": found ", value, ", expected 1 to ", most, ": no llama2.c model of format 0"));
    return value;
  };
  ModelShape shape;
  shape.family = "llama";
  shape.width = field(0, "dim", 1 << 20);
  shape.ffn = field(1, "hidden_dim", 1 << 22);
  shape.layers = field(2, "n_layers", 10'000);
  shape.heads = field(3, "n_heads", 1 << 16);
  shape.kv_heads = field(4, "n_kv_heads", shape.heads);
  shape.tied_head = header[5] > 0;
  header[5] = std::abs(header[5]);
  shape.vocab = field(5, "vocab_size", 1 << 24);
  shape.context = field(6, "seq_len", 1 << 24);
  shape.norm_eps = 1e-5f;
  shape.rope.neighbours = true;
  if (shape.width % shape.heads != 0 || shape.width / shape.heads % 2 != 0)
    refuse(path, text("n_heads: found ", shape.heads, ", expected heads of an even size in dim ", shape.width));
  if (shape.heads % shape.kv_heads != 0)
    refuse(path, text("n_kv_heads: found ", shape.kv_heads, ", expected a divisor of n_heads, ", shape.heads));
  return shape;
}

}  // namespace

Llama2cFile::Llama2cFile(const std::string& path) : path_(path), shape_(read_header(path)) {
  const Index c = shape_.width, keys = shape_.kv_heads * shape_.head_size(), f = shape_.ffn;
  add("model.embed_tokens.weight", {shape_.vocab, c});
  add_layers("input_layernorm", {c});
  add_layers("self_attn.q_proj", {c, c});
  add_layers("self_attn.k_proj", {keys, c});
  add_layers("self_attn.v_proj", {keys, c});
  add_layers("self_attn.o_proj", {c, c});
  add_layers("post_attention_layernorm", {c});
  add_layers("mlp.gate_proj", {f, c});
  add_layers("mlp.down_proj", {c, f});
  add_layers("mlp.up_proj", {f, c});
  add("model.norm.weight", {c});
  elements_ += shape_.context * shape_.head_size();  // cosines and sines, which follow from the rest
  if (!shape_.tied_head) add("lm_head.weight", {shape_.vocab, c});
  const auto expected = kHeader_bytes + static_cast<std::uintmax_t>(elements_) * sizeof(float);
  const std::uintmax_t found = std::filesystem::file_size(path);
  if (found != expected)
    refuse(path, text("found ", found, " bytes, expected ", expected, " as its header has it"));
}

void Llama2cFile::add(const std::string& name, std::vector<Index> extents) {
  Index count = 1;
  for (const Index n : extents) count *= n;
  offsets_[name] = elements_;
  elements_ += count;
  extents_[name] = std::move(extents);
}

void Llama2cFile::add_layers(const std::string& name, const std::vector<Index>& extents) {
  for (Index layer = 0; layer < shape_.layers; ++layer) add(text("model.layers.", layer, ".", name, ".weight"), extents);
}

std::vector<float> Llama2cFile::read_finite(const std::string& tensor, Index first, Index count) const {
  std::vector<float> values(static_cast<std::size_t>(count));
  std::ifstream file(path_, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(kHeader_bytes) +
             static_cast<std::streamoff>((offsets_.at(tensor) + first) * static_cast<Index>(sizeof(float))));
  file.read(reinterpret_cast<char*>(values.data()), count * static_cast<Index>(sizeof(float)));
  if (!file) refuse(path_, text(tensor, ": cannot be read: it was cut while it was read"));
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      refuse(path_, text("tensor ", in_quotes(tensor), ": element ", first + static_cast<Index>(i), ": found ", values[i],
                         ", expected a finite number"));
  return values;
}

}  // namespace lorashard::core
