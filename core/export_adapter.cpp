// A checkpoint's adapters as a PEFT directory. PEFT: the Hugging Face library, its 0.21.
#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>

#include "core/adapter.hpp"
#include "core/base_file.hpp"
#include "core/checkpoint.hpp"
#include "core/export.hpp"
#include "core/foreign_names.hpp"
#include "core/options.hpp"
#include "core/safetensors.hpp"
#include "core/safetensors_writer.hpp"
#include "core/text_file.hpp"

namespace lorashard::core {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using dist::AxisCut;
using kernels::fail;
using kernels::Failure;
using kernels::text;

// A pair as PEFT has it: A (rank, in), B (out, rank) on a whole module.
struct ModulePair {
  std::string module;  // "transformer.h.2.attn.c_attn"
  std::string kind;    // "attn.c_attn"
  Index rank = 0;
  double alpha = 0;
  Index in = 0, out = 0;
  std::vector<float> a, b;
};

std::vector<float> read(const CheckpointReader& reader, const std::string& name, Index rows, Index cols) {
  std::vector<float> values(static_cast<std::size_t>(rows * cols));
  reader.read(name, AxisCut::whole(rows), AxisCut::whole(cols), kernels::view(values.data(), rows, cols));
  return values;
}

// Rows [first, first + count) of B (rows, rank), in the order that Hugging Face's rotary positions ask for.
std::vector<float> rows_of(const std::vector<float>& b, Index rank, Index first, Index count, Target part,
                           const ModelShape& shape) {
  std::vector<float> rows(b.begin() + first * rank, b.begin() + (first + count) * rank);
  const bool rotary = shape.rope.neighbours && (part == Target::q || part == Target::k);
  return rotary ? neighbours_to_halves(rows, rank, shape.head_size()) : rows;
}

// The parts of one fused module (GPT-2's c_attn) as a single pair: A stacked, B with a block for each part, where `offset`
// says which rows of the module are the part's. All get the first one's scale; the others' is put into B.
void join(const AdapterSpec& spec, std::vector<float> a, const std::vector<float>& b, Index offset, ModulePair& into) {
  const Index before = into.rank, rank = before + spec.rank;
  const double scale = before == 0 ? static_cast<double>(spec.alpha) / static_cast<double>(spec.rank)
                                   : into.alpha / static_cast<double>(before);
  const auto factor = static_cast<float>(spec.alpha / static_cast<double>(spec.rank) / scale);
  std::vector<float> joined(static_cast<std::size_t>(into.out * rank));
  for (Index row = 0; row < into.out; ++row) {
    std::copy_n(into.b.begin() + row * before, before, joined.begin() + row * rank);
    if (row < offset || row >= offset + spec.out) continue;
    for (Index r = 0; r < spec.rank; ++r)
      joined[static_cast<std::size_t>(row * rank + before + r)] =
          factor * b[static_cast<std::size_t>((row - offset) * spec.rank + r)];
  }
  into.a.insert(into.a.end(), a.begin(), a.end());
  into.b = std::move(joined);
  into.rank = rank;
  into.alpha = scale * static_cast<double>(rank);
}

class Modules {
 public:
  Modules(const ModelShape& shape, const CheckpointReader& reader)
      : shape_(shape), reader_(reader), modules_(foreign_modules(shape)), layer_0_(tensor_table(shape, 0, 1)) {}

  void add(const AdapterSpec& spec) {
    const std::vector<float> a = read(reader_, spec.a_name(), spec.rank, spec.in);
    const std::vector<float> b = read(reader_, spec.b_name(), spec.out, spec.rank);
    const Family& family = family_of(shape_);
    for (const ForeignModule& module : modules_) {
      const TargetPlace place = place_of(family, module.target);
      if (place.linear != spec.place.linear) continue;
      if (module.target == spec.target) {
        pair_of(spec, module) = {name_of(spec, module), module.name, spec.rank, spec.alpha, spec.in, spec.out, a,
                                 rows_of(b, spec.rank, 0, spec.out, module.target, shape_)};
      } else if (place.segment < 0) {
        ModulePair& pair = pair_of(spec, module);
        if (pair.rank == 0) pair = {name_of(spec, module), module.name, 0, 0, module.in, module.out, {}, {}};
        join(spec, a, b, offset_of(spec.place), pair);
      } else if (spec.place.segment < 0) {
        pair_of(spec, module) = {name_of(spec, module), module.name, spec.rank, spec.alpha, module.in, module.out, a,
                                 rows_of(b, spec.rank, offset_of(place), module.out, module.target, shape_)};
      }
    }
  }

  const std::map<std::pair<Index, std::string>, ModulePair>& pairs() const { return pairs_; }

 private:
  std::string name_of(const AdapterSpec& spec, const ForeignModule& module) const {
    return foreign_block(shape_, spec.layer) + module.name;
  }
  ModulePair& pair_of(const AdapterSpec& spec, const ForeignModule& module) { return pairs_[{spec.layer, module.name}]; }
  // Rows of the fused layer before a segment.
  Index offset_of(const TargetPlace& place) const {
    Index offset = 0;
    const TensorInfo& weight = find(layer_0_, text("layers.0.", place.linear, ".weight"));
    for (int s = 0; s < place.segment; ++s) offset += weight.segments[static_cast<std::size_t>(s)].extent;
    return offset;
  }

  const ModelShape& shape_;
  const CheckpointReader& reader_;
  std::vector<ForeignModule> modules_;
  std::vector<TensorInfo> layer_0_;
  std::map<std::pair<Index, std::string>, ModulePair> pairs_;
};

json::value number(double value) {
  return value == std::floor(value) && std::abs(value) < 1e15 ? json::value(static_cast<std::int64_t>(value)) : json::value(value);
}

json::object config_of(const ModelShape& shape, const Modules& modules) {
  std::map<std::pair<Index, double>, Index> counts;
  std::map<std::string, Index> layers;
  for (const auto& [key, pair] : modules.pairs()) {
    ++counts[{pair.rank, pair.alpha}];
    ++layers[pair.kind];
  }
  const auto common = std::max_element(counts.begin(), counts.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; })->first;
  const bool everywhere = std::all_of(layers.begin(), layers.end(), [&](const auto& l) { return l.second == shape.layers; });
  json::array targets;
  json::object ranks, alphas;
  for (const auto& [kind, count] : layers)
    if (everywhere) targets.emplace_back(kind);
  for (const auto& [key, pair] : modules.pairs()) {
    if (!everywhere) targets.emplace_back(pair.module);
    if (pair.rank != common.first) ranks[pair.module] = pair.rank;
    if (pair.alpha != common.second) alphas[pair.module] = number(pair.alpha);
  }
  return {{"peft_type", "LORA"},
          {"task_type", "CAUSAL_LM"},
          {"base_model_name_or_path", nullptr},
          {"inference_mode", true},
          {"bias", "none"},
          {"r", common.first},
          {"lora_alpha", number(common.second)},
          {"lora_dropout", 0.0},
          {"rank_pattern", std::move(ranks)},
          {"alpha_pattern", std::move(alphas)},
          {"fan_in_fan_out", !family_of(shape).rotary},
          {"use_rslora", false},
          {"use_dora", false},
          {"modules_to_save", nullptr},
          {"target_modules", std::move(targets)}};
}

std::string tensor_name(const ModulePair& pair, char part) {
  return text("base_model.model.", pair.module, ".lora_", part, ".weight");
}

// What binds the file to its base and to its own contents.
std::map<std::string, std::string> metadata_of(const Modules& modules, const std::string& base_digest) {
  std::map<std::string, std::string> metadata;
  if (!base_digest.empty()) metadata[kBaseDigest] = base_digest;
  for (const auto& [key, pair] : modules.pairs())
    for (const auto& [part, values] : {std::pair{'A', &pair.a}, {'B', &pair.b}}) {
      const Digest digest = digest_of(values->data(), values->size() * sizeof(float));
      metadata[kTensorDigest + tensor_name(pair, part)] = digest.hex();
    }
  return metadata;
}

// The job's own, completed by its base.
Config config_of(const CheckpointReader& reader, const std::string& base_path) {
  const CheckpointInfo& info = reader.info();
  Config config = parse_config(info.config, reader.path(), {});
  if (info.method != name(Method::lora))
    fail(Failure::configuration, text(reader.path(), ": method: found ", info.method, ", expected lora"));
  if (!base_path.empty()) config.model.base = base_path;
  std::optional<BaseFile> base;
  if (!config.model.base.empty()) {
    base.emplace(config.model.base);
    expect_base(reader.path(), info.base_digest, base->digest().hex(), config.model.base);
  }
  complete_config(config, base ? &base->shape() : nullptr);
  config.adapter.init = reader.path();
  return config;
}

}  // namespace

ExportReport export_adapter(const std::string& checkpoint, const std::string& base, const std::string& to) {
  const CheckpointReader reader(checkpoint);
  reader.verify();
  const Config config = config_of(reader, base);
  const TrainingPlan plan = make_plan(config);
  const std::size_t expected = 7 * plan.adapters.size();  // A, B, their moments, alpha
  if (reader.entries().size() != expected)
    fail(Failure::configuration, text(checkpoint, ": found ", reader.entries().size(), " tensors, expected ", expected,
                                      " of adapters alone: a matrix that was trained whole goes into no PEFT adapter"));
  Modules modules(config.model.shape, reader);
  for (const AdapterSpec& spec : plan.adapters) modules.add(spec);

  if (fs::exists(fs::path(to) / "adapter_config.json"))
    fail(Failure::configuration, text(to, ": found an adapter there, expected a new directory"));
  fs::create_directories(to);
  std::vector<NewTensor> tensors;
  ExportReport report{"PEFT adapter", 0, 0, 1};
  for (const auto& [key, pair] : modules.pairs()) {
    tensors.push_back({tensor_name(pair, 'A'), kernels::DType::f32, {pair.rank, pair.in}});
    tensors.push_back({tensor_name(pair, 'B'), kernels::DType::f32, {pair.out, pair.rank}});
  }
  for (const NewTensor& tensor : tensors) report.bytes += tensor.bytes();
  report.tensors = static_cast<Index>(tensors.size());
  SafeTensorsWriter writer((fs::path(to) / "adapter_model.safetensors").string(), tensors,
                           metadata_of(modules, reader.info().base_digest));
  for (const auto& [key, pair] : modules.pairs()) {
    writer.write(std::as_bytes(std::span(pair.a)));
    writer.write(std::as_bytes(std::span(pair.b)));
  }
  writer.finish();
  write_whole((fs::path(to) / "adapter_config.json").string(), json::serialize(config_of(config.model.shape, modules)) + "\n");
  return report;
}

}  // namespace lorashard::core
