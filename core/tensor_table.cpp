#include "core/tensor_table.hpp"

#include <cmath>

#include "core/family.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;

dist::AxisCut cut_of(bool cut, const std::vector<dist::Segment>& segments, Index extent, int part, int parts) {
  return cut ? dist::AxisCut(segments, part, parts) : dist::AxisCut::whole(extent);
}

// Radford et al. 2019: normal with deviation 0.02, and 0.02 / sqrt(2 L) for the products that end in the residual stream.
// Models of the llama family are initialised the same way.
class Table {
 public:
  explicit Table(const ModelShape& shape) : shape_(shape), family_(family_of(shape)) {}

  std::vector<TensorInfo> make(Index first, Index count) {
    const Index width = shape_.width;
    matrix("embedding.token", shape_.vocab, width, CutAxis::rows, {shape_.vocab}, kDeviation);
    table_.back().home = shape_.tied_head ? Home::both_ends : Home::first;
    if (!family_.rotary) {
      matrix("embedding.position", shape_.context, width, CutAxis::none, {}, kDeviation);
      table_.back().home = Home::first;
    }
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
    const dist::Segment shared{keys, shape_.kv_heads};
    column("attention.qkv", width, {queries, shared, shared}, family_.linear_biases || shape_.qkv_bias);
    if (shape_.qk_norm) {
      head_norm("attention.q_norm.weight");
      head_norm("attention.k_norm.weight");
    }
    row("attention.o", queries, width, residual);
    norm("norm2", Home::layer);
    if (family_.gated) {
      column("mlp.gate_up", width, {shape_.ffn, shape_.ffn}, family_.linear_biases);
    } else {
      column("mlp.up", width, {shape_.ffn}, family_.linear_biases);
    }
    row("mlp.down", shape_.ffn, width, residual);
  }

  void column(const std::string& name, Index in, const std::vector<dist::Segment>& segments, bool bias) {
    Index out = 0;
    for (const dist::Segment& s : segments) out += s.extent;
    matrix(name + ".weight", out, in, CutAxis::rows, segments, kDeviation);
    if (bias) vector(name + ".bias", out, CutAxis::cols, segments, 0.0f, Home::layer);
  }

  void row(const std::string& name, Index in, Index out, float deviation) {
    matrix(name + ".weight", out, in, CutAxis::cols, {in}, deviation);
    if (family_.linear_biases) vector(name + ".bias", out, CutAxis::none, {}, 0.0f, Home::layer);
  }

  void norm(const std::string& name, Home home) {
    vector(name + ".weight", shape_.width, CutAxis::none, {}, 1.0f, home);
    if (!family_.rms_norm) vector(name + ".bias", shape_.width, CutAxis::none, {}, 0.0f, home);
  }

  void head_norm(const std::string& name) {
    vector(name, shape_.head_size(), CutAxis::none, {}, 1.0f, Home::layer);
    table_.back().of_heads = true;
  }

  void matrix(const std::string& name, Index rows, Index cols, CutAxis cut, std::vector<dist::Segment> segments, float scale) {
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

  void vector(const std::string& name, Index cols, CutAxis cut, std::vector<dist::Segment> segments, float constant, Home home) {
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
  const Family& family_;
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
  return Table(shape).make(first, count);
}

const TensorInfo& find(const std::vector<TensorInfo>& table, const std::string& name) {
  for (const TensorInfo& info : table) {
    if (info.name == name) return info;
  }
  fail(Failure::other, text("the model has no tensor called '", name, "'"));
}

void check_divides(const ModelShape& shape, int tensor_extent) {
  const auto divides = [&](Index t) { return shape.heads % t == 0 && shape.ffn % t == 0; };
  if (divides(tensor_extent)) return;
  std::string fitting;
  for (Index d = 1; d <= shape.heads && d <= 128; ++d)
    if (divides(d)) fitting += (fitting.empty() ? "" : ", ") + std::to_string(d);
  fail(Failure::configuration, text("mesh.tensor: found ", tensor_extent, ", which does not divide the model's ", shape.heads,
                                    " heads and feed-forward width ", shape.ffn, "; expected one of ", fitting));
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
