// The names and orientations of Hugging Face's, PEFT's and loralib's tensors, as this program has them.
#include <regex>
#include <stdexcept>

#include "tests/oracle/golden.hpp"

namespace lorashard::oracle {
namespace {

using Tensors = std::map<std::string, Array>;

// What a module of a layer is called there and here. Parts of a fused weight are first named like their adapters.
struct Module {
  const char* theirs;
  const char* ours;
  bool in_out = false;  // stored (in, out)
};
constexpr Module kModules[] = {
    // GPT-2
    {"attn.c_attn", "attention.qkv", true},
    {"attn.c_proj", "attention.o", true},
    {"mlp.c_fc", "mlp.up", true},
    {"mlp.c_proj", "mlp.down", true},
    {"ln_1", "norm1"},
    {"ln_2", "norm2"},
    // Llama
    {"self_attn.q_proj", "attention.qkv.q"},
    {"self_attn.k_proj", "attention.qkv.k"},
    {"self_attn.v_proj", "attention.qkv.v"},
    {"self_attn.o_proj", "attention.o"},
    {"mlp.gate_proj", "mlp.gate_up.gate"},
    {"mlp.up_proj", "mlp.gate_up.up"},
    {"mlp.down_proj", "mlp.down"},
    {"input_layernorm", "norm1"},
    {"post_attention_layernorm", "norm2"},
};

// Tensors outside the layers.
const std::map<std::string, std::string> kEnds{
    {"wte.weight", "embedding.token"},    {"wpe.weight", "embedding.position"},
    {"ln_f.weight", "final_norm.weight"}, {"ln_f.bias", "final_norm.bias"},
    {"lm_head.weight", "head.weight"},    {"embed_tokens.weight", "embedding.token"},
    {"norm.weight", "final_norm.weight"},
};

// The fused weights and their parts in the order of their rows.
const std::map<std::string, std::vector<std::string>> kFused{{"attention.qkv", {"q", "k", "v"}},
                                                             {"mlp.gate_up", {"gate", "up"}}};

const Module& module_of(const std::string& theirs) {
  for (const Module& module : kModules)
    if (theirs == module.theirs) return module;
  throw std::runtime_error("no module is called " + theirs);
}

std::string without_prefix(std::string name) {
  for (const std::string prefix : {"base_model.model.", "transformer.", "model."})
    if (name.rfind(prefix, 0) == 0) name = name.substr(prefix.size());
  return name;
}

void translate(const std::string& name, const Array& array, Tensors& to) {
  if (const auto end = kEnds.find(name); end != kEnds.end()) {
    to[end->second] = array;
    return;
  }
  static const std::regex pattern(R"((?:h|layers)\.(\d+)\.(.+?)\.(weight|bias|lora_A|lora_B)(\.default)?(\.weight)?)");
  std::smatch match;
  if (!std::regex_match(name, match, pattern)) throw std::runtime_error("cannot translate the name " + name);
  const Module& module = module_of(match[2]);
  const std::string leaf = match[3], ours = "layers." + match[1].str() + "." + module.ours;
  if (leaf == "weight" || leaf == "bias") {
    to[ours + "." + leaf] = leaf == "weight" && module.in_out ? transposed(array) : array;
    return;
  }
  const std::string adapter_leaf = leaf == "lora_A" ? ".lora_a" : ".lora_b";
  const bool loralib = !match[5].matched;
  if (!loralib) {
    to[ours + adapter_leaf] = array;
    return;
  }
  to[ours + ".q" + adapter_leaf] = rows_of(array, 0, array.rows / 2);
  to[ours + ".v" + adapter_leaf] = rows_of(array, array.rows / 2, array.rows / 2);
}

// Puts the parts' rows below each other under the fused weight's name; adapters stay apart.
void fuse(Tensors& tensors) {
  static const std::regex pattern(R"((layers\.\d+\.)(attention\.qkv|mlp\.gate_up)\.(q|k|v|gate|up)(\.weight|\.bias))");
  Tensors fused;
  for (const auto& [name, array] : tensors) {
    std::smatch match;
    if (!std::regex_match(name, match, pattern)) continue;
    const std::string whole = match[1].str() + match[2].str(), leaf = match[4];
    std::vector<Array> parts;
    for (const std::string& part : kFused.at(match[2])) {
      const auto found = tensors.find(whole + "." + part + leaf);
      if (found == tensors.end()) throw std::runtime_error(name + " is here, but not " + whole + "." + part + leaf);
      parts.push_back(found->second);
    }
    fused[whole + leaf] = stacked(parts);
  }
  std::erase_if(tensors, [](const auto& item) { return std::regex_match(item.first, pattern); });
  tensors.merge(fused);
}

}  // namespace

std::map<std::string, Array> translated(const std::map<std::string, Array>& tensors) {
  Tensors result;
  for (const auto& [name, array] : tensors) translate(without_prefix(name), array, result);
  fuse(result);
  return result;
}

}  // namespace lorashard::oracle
