#include "core/adapter_file.hpp"

#include <algorithm>
#include <boost/regex.hpp>
#include <filesystem>
#include <map>
#include <optional>

#include "core/family.hpp"
#include "core/foreign_names.hpp"
#include "core/peft_config.hpp"
#include "core/quote.hpp"
#include "core/safetensors.hpp"

namespace lorashard::core {
namespace {

namespace fs = std::filesystem;
using kernels::fail;
using kernels::Failure;
using kernels::text;

// The two matrices of one module as they lie in the file.
struct StoredPair {
  Index layer = 0;
  std::size_t module = 0;  // in foreign_modules
  std::string name;        // "transformer.h.2.mlp.c_fc", for patterns and messages
  std::string tensor_a, tensor_b;
};
using StoredPairs = std::map<std::pair<Index, std::size_t>, StoredPair>;

[[noreturn]] void refuse(const std::string& path, const std::string& problem) {
  fail(Failure::configuration, text(path, ": ", problem));
}

// Sorts the tensors of a file into pairs. PEFT's names end in ".weight" and begin with "base_model.model.".
StoredPairs sort_tensors(const SafeTensors& tensors, const ModelShape& shape, bool peft) {
  const boost::regex pattern(text(R"((?:base_model\.model\.)?()", foreign_block_pattern(shape),
                                  R"(([a-z_.]+))\.lora_([AB])(\.weight)?)"));
  const auto modules = foreign_modules(shape);
  StoredPairs pairs;
  for (const auto& [tensor, entry] : tensors.entries()) {
    boost::smatch match;
    std::size_t module = modules.size();
    if (boost::regex_match(tensor, match, pattern) && match[5].matched == peft)
      for (module = 0; module < modules.size() && match[3].str() != modules[module].name;) ++module;
    if (module == modules.size())
      refuse(tensors.path(),
             text("tensor ", in_quotes(tensor), " is none of an adapter's of family ", shape.family, ", expected names like '",
                  peft ? "base_model.model." : "", foreign_block(shape, 0), modules[0].name, ".lora_A",
                  peft ? ".weight'" : "' (a PEFT adapter is given as its directory)"));
    const Index layer = std::stol(match[2].str());
    if (layer >= shape.layers)
      refuse(tensors.path(),
             text("tensor ", in_quotes(tensor), ": found layer ", layer, ", expected 0 to ", shape.layers - 1));
    StoredPair& pair = pairs[{layer, module}];
    std::string& place = match[4] == "A" ? pair.tensor_a : pair.tensor_b;
    if (!place.empty())
      refuse(tensors.path(), text("found ", in_quotes(place), " and ", in_quotes(tensor), ", expected one"));
    place = tensor;
    pair.layer = layer, pair.module = module, pair.name = match[1].str();
  }
  if (pairs.empty()) refuse(tensors.path(), "found no tensor, expected an adapter's");
  return pairs;
}

// The extents of both matrices of a pair: A (rows, in), B (out, cols).
void check_extents(const SafeTensors& tensors, const std::string& tensor, Index rows, Index cols) {
  const auto& found = tensors.entry(tensor).extents;
  if (found == std::vector<Index>{rows, cols}) return;
  refuse(tensors.path(),
         text("tensor ", in_quotes(tensor), ": found ", extents_text(found), ", expected ", rows, "x", cols));
}

void check_both(const SafeTensors& tensors, const StoredPair& pair) {
  if (pair.tensor_a.empty() || pair.tensor_b.empty())
    refuse(tensors.path(),
           text(pair.name, ": found only ", in_quotes(pair.tensor_a + pair.tensor_b), ", expected lora_A and lora_B"));
}

AdapterPair read_peft_pair(const SafeTensors& tensors, const StoredPair& stored, const ForeignModule& module,
                           const PeftConfig& config, const ModelShape& shape) {
  AdapterPair pair{stored.layer,
                   module.target,
                   config.rank_of(stored.name),
                   config.alpha_of(stored.name),
                   module.in,
                   module.out,
                   {},
                   {}};
  check_extents(tensors, stored.tensor_a, pair.rank, pair.in);
  check_extents(tensors, stored.tensor_b, pair.out, pair.rank);
  pair.a = tensors.read_finite(stored.tensor_a);
  pair.b = tensors.read_finite(stored.tensor_b);
  const bool rotary = shape.rope.neighbours && (module.target == Target::q || module.target == Target::k);
  if (rotary) pair.b = halves_to_neighbours(pair.b, pair.rank, shape.head_size());
  return pair;
}

// loralib's MergedLinear with enable_lora = [True, False, True]: the rows of q, then those of v, in A and in B alike.
// (Hu et al. 2021, the code published with arXiv 2106.09685.) Other modules carry plain pairs.
std::vector<AdapterPair> read_loralib_pairs(const SafeTensors& tensors, const StoredPair& stored,
                                            const ForeignModule& module) {
  const auto& b = tensors.entry(stored.tensor_b).extents;
  if (b.size() != 2 || b[1] < 1)
    refuse(tensors.path(),
           text("tensor ", in_quotes(stored.tensor_b), ": found ", b.size(), " axes, expected (out, rank)"));
  const bool fused = module.target == Target::qkv;
  const std::vector<Target> targets = fused ? std::vector{Target::q, Target::v} : std::vector{module.target};
  const Index parts = static_cast<Index>(targets.size()), rank = b[1], out = fused ? module.in : module.out;
  if (rank > module.in + module.out)
    refuse(tensors.path(),
           text("tensor ", in_quotes(stored.tensor_b), ": found rank ", rank, ", far above the matrix's own"));
  check_extents(tensors, stored.tensor_a, parts * rank, module.in);
  check_extents(tensors, stored.tensor_b, parts * out, rank);
  std::vector<AdapterPair> pairs;
  for (Index part = 0; part < parts; ++part)
    pairs.push_back({stored.layer, targets[static_cast<std::size_t>(part)], rank, 0, module.in, out,
                     tensors.read_finite(stored.tensor_a, part * rank * module.in, rank * module.in),
                     tensors.read_finite(stored.tensor_b, part * out * rank, out * rank)});
  return pairs;
}

std::string peft_weights(const std::string& directory) {
  const fs::path weights = fs::path(directory) / "adapter_model.safetensors";
  if (!fs::exists(weights) && fs::exists(fs::path(directory) / "adapter_model.bin"))
    refuse(directory,
           "found adapter_model.bin, expected adapter_model.safetensors (save with safe_serialization=True)");
  return weights.string();
}

// Just the modules that the configuration's targets name. PEFT starts those that a file lacks anew, and passes over
// what they do not name: neither is what was trained.
void check_targets(const SafeTensors& tensors, const StoredPairs& pairs, const PeftConfig& config,
                   const ModelShape& shape) {
  const auto modules = foreign_modules(shape);
  // As the file's own names begin: those of a model without its head lack the first word.
  const std::string block = foreign_block(shape, 0), word = block.substr(0, block.find('.') + 1);
  const std::size_t left_out = pairs.begin()->second.name.starts_with(word) ? 0 : word.size();
  for (Index layer = 0; layer < shape.layers; ++layer)
    for (std::size_t module = 0; module < modules.size(); ++module) {
      const std::string name = foreign_block(shape, layer).substr(left_out) + modules[module].name;
      const std::optional<bool> expected = config.adapts(name, layer);
      const bool found = pairs.count({layer, module}) != 0;
      if (!expected || *expected == found) continue;
      refuse(tensors.path(), found
                                 ? text("found tensors of ", name, ", which is none of the targets of ", config.path())
                                 : text("tensors of ", name, " are missing, which is a target of ", config.path()));
    }
}

}  // namespace

std::string stated_base(const std::string& path) {
  std::error_code ignored;
  return SafeTensors::open(fs::is_directory(path, ignored) ? peft_weights(path) : path).base_digest();
}

bool is_foreign_adapter(const std::string& path) {
  std::error_code ignored;
  return path.ends_with(".safetensors") || fs::is_directory(path, ignored);
}

std::vector<AdapterPair> read_adapter(const std::string& path, const ModelShape& shape) {
  std::error_code ignored;
  const bool peft = fs::is_directory(path, ignored);
  if (!peft && family_of(shape).rotary) refuse(path, "loralib's files are read for the family gpt2 alone; expected a PEFT directory");
  std::optional<PeftConfig> config;
  if (peft) config.emplace((fs::path(path) / "adapter_config.json").string());
  const SafeTensors tensors = SafeTensors::open(peft ? peft_weights(path) : path);
  tensors.verify_digests();
  const auto modules = foreign_modules(shape);
  const StoredPairs stored_pairs = sort_tensors(tensors, shape, peft);
  if (config) check_targets(tensors, stored_pairs, *config, shape);
  std::vector<AdapterPair> pairs;
  for (const auto& [place, stored] : stored_pairs) {
    check_both(tensors, stored);
    const ForeignModule& module = modules[stored.module];
    if (peft) {
      pairs.push_back(read_peft_pair(tensors, stored, module, *config, shape));
    } else {
      for (AdapterPair& pair : read_loralib_pairs(tensors, stored, module)) pairs.push_back(std::move(pair));
    }
  }
  std::sort(pairs.begin(), pairs.end(), [](const AdapterPair& a, const AdapterPair& b) {
    return std::pair(a.layer, a.target) < std::pair(b.layer, b.target);
  });
  return pairs;
}

}  // namespace lorashard::core
