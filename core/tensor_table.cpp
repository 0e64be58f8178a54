#include "core/tensor_table.hpp"

#include <cmath>

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;

dist::AxisCut cut_of(bool cut, const std::vector<Index>& segments, Index extent, int part, int parts) {
  return cut ? dist::AxisCut(segments, part, parts) : dist::AxisCut::whole(extent);
}

// Radford et al. 2019: normal with deviation 0.02, and 0.02 / sqrt(2 L) for the products that end in the residual stream.
class Gpt2Table {
 public:
  explicit Gpt2Table(const ModelShape& shape) : shape_(shape) {}

  std::vector<TensorInfo> make(Index first, Index count) {
    const Index width = shape_.width;
    matrix("embedding.token", shape_.vocab, width, CutAxis::rows, {shape_.vocab}, kDeviation);
    table_.back().home = shape_.tied_head ? Home::both_ends : Home::first;
    matrix("embedding.position", shape_.context, width, CutAxis::none, {}, kDeviation);
    table_.back().home = Home::first;
    for (Index layer = first; layer < first + count; ++layer) add_layer(layer);
    layer_ = -1;
    prefix_.clear();
    norm("final_norm", Home::last);
    if (!shape_.tied_head) {
      matrix("head.weight", shape_.vocab, width, CutAxis::rows, {shape_.vocab}, kDeviation);
      table_.back().home = Home::last;
    }
    return std::move(table_);
  }

 private:
  static constexpr float kDeviation = 0.02f;

  void add_layer(Index layer) {
    layer_ = layer;
    prefix_ = text("layers.", layer, ".");
    const Index width = shape_.width, queries = shape_.heads * shape_.head_size();
    const Index keys = shape_.kv_heads * shape_.head_size();
    const float residual = kDeviation / std::sqrt(2.0f * static_cast<float>(shape_.layers));
    norm("norm1", Home::layer);
    column("attention.qkv", width, {queries, keys, keys});
    row("attention.o", queries, width, residual);
    norm("norm2", Home::layer);
    column("mlp.up", width, {shape_.ffn});
    row("mlp.down", shape_.ffn, width, residual);
  }

  void column(const std::string& name, Index in, std::vector<Index> segments) {
    Index out = 0;
    for (Index s : segments) out += s;
    matrix(name + ".weight", out, in, CutAxis::rows, segments, kDeviation);
    vector(name + ".bias", out, CutAxis::cols, segments, 0.0f, Home::layer);
  }

  void row(const std::string& name, Index in, Index out, float deviation) {
    matrix(name + ".weight", out, in, CutAxis::cols, {in}, deviation);
    vector(name + ".bias", out, CutAxis::none, {}, 0.0f, Home::layer);
  }

  void norm(const std::string& name, Home home) {
    vector(name + ".weight", shape_.width, CutAxis::none, {}, 1.0f, home);
    vector(name + ".bias", shape_.width, CutAxis::none, {}, 0.0f, home);
  }

  void matrix(const std::string& name, Index rows, Index cols, CutAxis cut, std::vector<Index> segments, float scale) {
    TensorInfo info;
    info.name = prefix_ + name;
    info.rows = rows;
    info.cols = cols;
    info.cut = cut;
    info.segments = std::move(segments);
    info.layer = layer_;
    info.init_scale = scale;
    info.decay = true;
    table_.push_back(std::move(info));
  }

  void vector(const std::string& name, Index cols, CutAxis cut, std::vector<Index> segments, float constant, Home home) {
    TensorInfo info;
    info.name = prefix_ + name;
    info.rows = 1;
    info.cols = cols;
    info.cut = cut;
    info.segments = std::move(segments);
    info.home = home;
    info.layer = layer_;
    info.init_constant = constant;
    table_.push_back(std::move(info));
  }

  const ModelShape& shape_;
  std::vector<TensorInfo> table_;
  std::string prefix_;
  Index layer_ = -1;
};

}  // namespace

dist::AxisCut TensorInfo::row_cut(int part, int parts) const {
  return cut_of(cut == CutAxis::rows, segments, rows, part, parts);
}

dist::AxisCut TensorInfo::col_cut(int part, int parts) const {
  return cut_of(cut == CutAxis::cols, segments, cols, part, parts);
}

std::vector<TensorInfo> tensor_table(const ModelShape& shape) { return tensor_table(shape, 0, shape.layers); }

std::vector<TensorInfo> tensor_table(const ModelShape& shape, Index first, Index count) {
  if (shape.family == "gpt2") return Gpt2Table(shape).make(first, count);
  fail(Failure::configuration, text("model.family: found '", shape.family, "', expected gpt2"));
}

const TensorInfo& find(const std::vector<TensorInfo>& table, const std::string& name) {
  for (const TensorInfo& info : table) {
    if (info.name == name) return info;
  }
  fail(Failure::other, text("the model has no tensor called '", name, "'"));
}

void check_divides(const ModelShape& shape, int tensor_extent) {
  const Index t = tensor_extent;
  if (shape.heads % t == 0 && shape.kv_heads % t == 0 && shape.ffn % t == 0) return;
  std::string fitting;
  for (Index d = 1; d <= shape.kv_heads && d <= 128; ++d) {
    if (shape.heads % d == 0 && shape.kv_heads % d == 0 && shape.ffn % d == 0) {
      fitting += (fitting.empty() ? "" : ", ") + std::to_string(d);
    }
  }
  fail(Failure::configuration, text("mesh.tensor: found ", t, ", which does not divide the model's ", shape.heads, " heads, ",
                                    shape.kv_heads, " key/value heads and feed-forward width ", shape.ffn,
                                    "; expected one of ", fitting));
}

double multiplied_parameters(const ModelShape& shape) {
  double count = static_cast<double>(shape.vocab * shape.width);
  for (const TensorInfo& info : tensor_table(shape))
    if (info.home == Home::layer && info.rows > 1) count += static_cast<double>(info.rows * info.cols);
  return count;
}

Index parameter_count(const ModelShape& shape) {
  Index count = 0;
  for (const TensorInfo& info : tensor_table(shape)) count += info.rows * info.cols;
  return count;
}

// FNV-1a: the same on every platform and every build.
std::uint64_t stream_of(const std::string& name) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (unsigned char c : name) hash = (hash ^ c) * 0x100000001b3u;
  return hash;
}

}  // namespace lorashard::core
