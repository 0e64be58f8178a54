#include "core/foreign_names.hpp"

#include <map>

#include "core/family.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;

// Theirs, in the order of our segments, for one of our layers' parts: "attention.qkv" and the ending apart.
struct Names {
  std::vector<std::string> modules;
  bool turned = false;
};

const std::map<std::string, Names>& names_of_block(const Family& family) {
  static const std::map<std::string, Names> gpt2{
      {"norm1", {{"ln_1"}}},
      {"attention.qkv", {{"attn.c_attn"}, true}},
      {"attention.o", {{"attn.c_proj"}, true}},
      {"norm2", {{"ln_2"}}},
      {"mlp.up", {{"mlp.c_fc"}, true}},
      {"mlp.down", {{"mlp.c_proj"}, true}},
  };
  static const std::map<std::string, Names> llama{
      {"norm1", {{"input_layernorm"}}},
      {"attention.qkv", {{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}}},
      {"attention.q_norm", {{"self_attn.q_norm"}}},
      {"attention.k_norm", {{"self_attn.k_norm"}}},
      {"attention.o", {{"self_attn.o_proj"}}},
      {"norm2", {{"post_attention_layernorm"}}},
      {"mlp.gate_up", {{"mlp.gate_proj", "mlp.up_proj"}}},
      {"mlp.down", {{"mlp.down_proj"}}},
  };
  return family.rotary ? llama : gpt2;
}

std::string name_outside(const Family& family, const std::string& ours) {
  static const std::map<std::string, std::string> gpt2{{"embedding.token", "wte.weight"},
                                                       {"embedding.position", "wpe.weight"},
                                                       {"final_norm.weight", "ln_f.weight"},
                                                       {"final_norm.bias", "ln_f.bias"},
                                                       {"head.weight", "lm_head.weight"}};
  static const std::map<std::string, std::string> llama{{"embedding.token", "model.embed_tokens.weight"},
                                                        {"final_norm.weight", "model.norm.weight"},
                                                        {"head.weight", "lm_head.weight"}};
  const auto& names = family.rotary ? llama : gpt2;
  const auto found = names.find(ours);
  if (found == names.end()) fail(Failure::other, text("nobody else has a name for the tensor ", ours));
  return found->second;
}

std::string block(const Family& family, Index layer) {
  return text(family.rotary ? "model.layers." : "h.", layer, ".");
}

}  // namespace

std::vector<ForeignPart> foreign_parts(const TensorInfo& tensor, const ModelShape& shape) {
  const Family& family = family_of(shape);
  const Index extent = tensor.rows > 1 ? tensor.rows : tensor.cols;
  if (tensor.layer < 0) return {{name_outside(family, tensor.name), 0, extent}};
  const std::string prefix = text("layers.", tensor.layer, ".");
  const std::size_t dot = tensor.name.rfind('.');
  const std::string ours = tensor.name.substr(prefix.size(), dot - prefix.size()), ending = tensor.name.substr(dot);
  const auto found = names_of_block(family).find(ours);
  if (found == names_of_block(family).end()) fail(Failure::other, text("nobody else has a name for the tensor ", tensor.name));
  const Names& names = found->second;
  std::vector<ForeignPart> parts;
  Index first = 0;
  for (std::size_t i = 0; i < names.modules.size(); ++i) {
    const Index count = names.modules.size() == 1 ? extent : tensor.segments[i].extent;
    const bool rotary = family.rotary && (ours.ends_with("_norm") || (ours == "attention.qkv" && i < 2));
    parts.push_back({block(family, tensor.layer) + names.modules[i] + ending, first, count,
                     names.turned && ending == ".weight", rotary});
    first += count;
  }
  return parts;
}

std::vector<ForeignModule> foreign_modules(const ModelShape& shape) {
  const Family& family = family_of(shape);
  const std::vector<TensorInfo> layer = tensor_table(shape, 0, 1);
  std::vector<ForeignModule> modules;
  for (const Target target : family.targets) {
    const TargetPlace place = place_of(family, target);
    const TensorInfo& weight = find(layer, text("layers.0.", place.linear, ".weight"));
    const Names& names = names_of_block(family).at(place.linear);
    modules.push_back({names.modules[place.segment < 0 ? 0 : static_cast<std::size_t>(place.segment)], target, weight.cols,
                       place.segment < 0 ? weight.rows : weight.segments[place.segment].extent});
  }
  return modules;
}

std::string foreign_block(const ModelShape& shape, Index layer) {
  const Family& family = family_of(shape);
  return (family.rotary ? "" : "transformer.") + block(family, layer);
}

std::string foreign_block_pattern(const ModelShape& shape) {
  return family_of(shape).rotary ? R"((?:model\.)?layers\.(\d{1,6})\.)" : R"((?:transformer\.)?h\.(\d{1,6})\.)";
}

}  // namespace lorashard::core
