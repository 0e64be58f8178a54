#include "core/family.hpp"

#include "core/quote.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {

using kernels::fail;
using kernels::Failure;
using kernels::text;

const Family& family_of(const std::string& name) {
  static const std::vector<Family> families{
      {.name = "gpt2", .rms_norm = false, .rotary = false, .gated = false, .linear_biases = true,
       .targets = {Target::qkv, Target::o, Target::up, Target::down}, .further_targets = {Target::q, Target::k, Target::v}},
      {.name = "llama", .rms_norm = true, .rotary = true, .gated = true, .linear_biases = false,
       .targets = {Target::q, Target::k, Target::v, Target::o, Target::up, Target::gate, Target::down},
       .further_targets = {Target::qkv}},
  };
  for (const Family& family : families)
    if (name == family.name) return family;
  std::string known;
  for (const Family& family : families) known += (known.empty() ? "" : " or ") + std::string(family.name);
  fail(Failure::configuration, text("model.family: found ", in_quotes(name), ", expected ", known));
}

TargetPlace place_of(const Family& family, Target target) {
  switch (target) {
    case Target::qkv: return {"attention.qkv", -1};
    case Target::q: return {"attention.qkv", 0};
    case Target::k: return {"attention.qkv", 1};
    case Target::v: return {"attention.qkv", 2};
    case Target::o: return {"attention.o", -1};
    case Target::up: return family.gated ? TargetPlace{"mlp.gate_up", 1} : TargetPlace{"mlp.up", -1};
    case Target::gate:
      if (family.gated) return {"mlp.gate_up", 0};
      break;
    case Target::down: return {"mlp.down", -1};
  }
  fail(Failure::configuration,
       text("adapter.targets: found ", name(target), ", which the family ", family.name, " does not have"));
}

}  // namespace lorashard::core
