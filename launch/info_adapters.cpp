#include "launch/info_adapters.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <tuple>

#include "core/adapter_file.hpp"
#include "core/base_file.hpp"
#include "core/checkpoint.hpp"
#include "core/option_values.hpp"
#include "core/peft_config.hpp"
#include "core/quote.hpp"
#include "core/safetensors.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using core::Index;
using core::SafeTensors;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

namespace fs = std::filesystem;

constexpr Index kMostLayers = 10'000;  // as import has it

// A matrix of a layer that has an adapter. Its name is front, layer, a dot and matrix: "layers.", 3, "mlp.up".
struct Adapted {
  std::string front, matrix;
  Index layer = 0, rank = 0;
  double alpha = 0;
};

// The first number between dots is the layer. No matrix where there is none.
Adapted place_of(const std::string& name) {
  for (std::size_t at = 0, dot; (dot = name.find('.', at)) != name.npos; at = dot + 1)
    if (const auto layer = core::to_whole(name.substr(at, dot - at)); layer && *layer >= 0 && *layer < kMostLayers)
      return {name.substr(0, at), name.substr(dot + 1), *layer};
  return {};
}

// A line for all layers of the same matrix, rank and alpha.
std::string adapted_text(const std::vector<Adapted>& all) {
  std::map<std::tuple<std::string, Index, double>, std::vector<Index>> layers;
  for (const Adapted& one : all) layers[{one.matrix, one.rank, one.alpha}].push_back(one.layer);
  std::string lines;
  for (auto& [key, numbers] : layers) {
    std::sort(numbers.begin(), numbers.end());
    const auto& [matrix, rank, alpha] = key;
    const std::string shown = core::in_quotes(matrix);
    lines += text("  ", shown.substr(1, shown.size() - 2), ": rank ", rank, ", alpha ", core::text_of(alpha),
                  ", layers ", core::text_of(numbers), "\n");
  }
  return lines;
}

std::vector<Adapted> adapted_of(const core::CheckpointReader& checkpoint) {
  const std::string ending = ".lora_a";
  std::vector<Adapted> all;
  for (const core::CheckpointEntry& entry : checkpoint.entries()) {
    if (!entry.name.ends_with(ending)) continue;
    const std::string name = entry.name.substr(0, entry.name.size() - ending.size());
    Adapted one = place_of(name);
    float alpha = 0;
    checkpoint.read(name + ".alpha", dist::AxisCut::whole(1), dist::AxisCut::whole(1), kernels::view(&alpha, 1, 1));
    one.rank = entry.rows, one.alpha = alpha;
    all.push_back(one);
  }
  return all;
}

// Half a pair: one of its two tensors, and the other's name.
struct HalfPair {
  std::string module, other;
  bool a = false;
};

HalfPair half_of(const std::string& tensor) {
  std::string name = tensor;
  if (const std::string prefix = "base_model.model."; name.starts_with(prefix)) name.erase(0, prefix.size());
  for (const char part : {'A', 'B'}) {
    const std::string ending = text(".lora_", part, ".weight");
    if (!name.ends_with(ending)) continue;
    std::string other = tensor;
    other[tensor.size() - std::string("A.weight").size()] = part == 'A' ? 'B' : 'A';
    return {name.substr(0, name.size() - ending.size()), other, part == 'A'};
  }
  return {};
}

[[noreturn]] void refuse(const std::string& path, const std::string& problem) {
  fail(Failure::configuration, text(path, ": ", problem));
}

// Each has its other half, and the rank that the configuration gives it.
std::vector<Adapted> adapted_of(const SafeTensors& tensors, const core::PeftConfig& config) {
  std::vector<Adapted> all;
  for (const auto& [tensor, entry] : tensors.entries()) {
    const HalfPair half = half_of(tensor);
    Adapted one = place_of(half.module);
    if (one.matrix.empty())
      refuse(tensors.path(),
             text("tensor ", core::in_quotes(tensor), " is none of an adapter's, expected names with a ",
                  "layer's number that end in '.lora_A.weight' and '.lora_B.weight'"));
    if (!tensors.has(half.other)) refuse(tensors.path(), text("tensor ", core::in_quotes(half.other), " is missing"));
    one.rank = config.rank_of(half.module), one.alpha = config.alpha_of(half.module);
    const std::size_t axis = half.a ? 0 : 1;
    if (entry.extents.size() != 2 || entry.extents[axis] != one.rank)
      refuse(tensors.path(),
             text("tensor ", core::in_quotes(tensor), ": found ", core::extents_text(entry.extents), ", expected rank ",
                  one.rank, half.a ? " ahead of" : " behind", " another extent, as ", config.path(), " has it"));
    if (half.a) all.push_back(one);
  }
  if (all.empty()) refuse(tensors.path(), "found no tensor, expected an adapter's");
  return all;
}

// Layers that lie between others, or ahead of them, and are the configuration's targets.
void expect_no_gap(const std::vector<Adapted>& all, const SafeTensors& tensors, const core::PeftConfig& config) {
  std::map<std::pair<std::string, std::string>, std::set<Index>> kinds;
  for (const Adapted& one : all) kinds[{one.front, one.matrix}].insert(one.layer);
  for (const auto& [kind, layers] : kinds)
    for (Index layer = 0; layer < *layers.rbegin(); ++layer) {
      const std::string module = text(kind.first, layer, ".", kind.second);
      if (!layers.count(layer) && config.adapts(module, layer).value_or(false))
        refuse(tensors.path(),
               text("tensors of ", core::in_quotes(module), " are missing, which is a target of ", config.path()));
    }
}

// What stands at the end of all of them: which base, and whether it is this one.
std::string base_text(const std::string& path, const std::string& stated, const std::string& base) {
  const std::string line = text("  base ", stated.empty() ? "none named" : stated, "\n");
  if (base.empty()) return line;
  const core::BaseFile file(base);
  const bool foreign = core::is_foreign_adapter(path);
  if (!foreign || !stated.empty()) core::expect_base(path, stated, file.digest().hex(), base);
  if (foreign) core::read_adapter(path, file.shape());
  const bool by_form = foreign && stated.empty();
  return line + text("  belongs to ", base, by_form ? ", as far as its tensors' names and extents tell" : "", "\n");
}

}  // namespace

std::string describe_checkpoint(const std::string& path, const std::string& base) {
  const core::CheckpointReader checkpoint(path);
  checkpoint.verify();
  const core::CheckpointInfo& info = checkpoint.info();
  Index values = 0;
  for (const core::CheckpointEntry& entry : checkpoint.entries())
    if (!entry.name.ends_with("_moment") && !entry.name.ends_with(".alpha")) values += entry.rows * entry.cols;
  return text(path, ": checkpoint\n  method ", info.method, ", ", count_text(info.step), " steps done, ",
              count_text(values), " trained values\n", adapted_text(adapted_of(checkpoint)), "  digest ",
              checkpoint.digest().hex(), "\n  whole: the digests of all ", checkpoint.entries().size(),
              " tensors agree\n", base_text(path, info.base_digest, base), info.config);
}

std::string describe_peft(const std::string& directory, const std::string& base) {
  const core::PeftConfig config((fs::path(directory) / "adapter_config.json").string());
  const SafeTensors tensors = SafeTensors::open((fs::path(directory) / "adapter_model.safetensors").string());
  tensors.verify_digests();
  const std::vector<Adapted> adapted = adapted_of(tensors, config);
  expect_no_gap(adapted, tensors, config);
  return text(directory, ": PEFT adapter\n", adapted_text(adapted), "  whole: ", tensors.entries().size(),
              " tensors, in pairs", tensors.has_digests() ? "; their digests agree\n" : "; they carry no digests\n",
              base_text(directory, tensors.base_digest(), base));
}

std::string describe_safetensors(const std::string& path, const std::string& base) {
  const SafeTensors tensors = SafeTensors::open(path);
  tensors.verify_digests();
  std::string lines;
  std::uint64_t bytes = 0;
  for (const auto& [tensor, entry] : tensors.entries()) {
    lines += text("  ", core::in_quotes(tensor), ": ", core::extents_text(entry.extents), ", ", name(entry.type), "\n");
    bytes += entry.end - entry.begin;
  }
  const std::string stated = tensors.base_digest();
  return text(path, ": safetensors\n", lines, "  ", tensors.entries().size(), " tensors, ",
              bytes_text(static_cast<double>(bytes)),
              tensors.has_digests() ? "; their digests agree\n" : "; they carry no digests\n",
              stated.empty() && base.empty() ? "" : base_text(path, stated, base));
}

}  // namespace lorashard::launch
