// The linear modules of a GPT-2 block: what Hugging Face calls them, what they are here, and their extents.
#pragma once

#include <string_view>

#include "core/config.hpp"

namespace lorashard::core {

struct Gpt2Module {
  std::string_view foreign;  // "attn.c_attn"
  std::string_view ours;     // "attention.qkv", as in the tensor table
  Target target;             // of an adapter that sits on the whole module
  Index in, out;
};

inline std::array<Gpt2Module, 4> gpt2_modules(const ModelShape& s) {
  const Index qkv = (s.heads + 2 * s.kv_heads) * s.head_size();
  return {{{"attn.c_attn", "attention.qkv", Target::qkv, s.width, qkv},
           {"attn.c_proj", "attention.o", Target::o, s.width, s.width},
           {"mlp.c_fc", "mlp.up", Target::up, s.width, s.ffn},
           {"mlp.c_proj", "mlp.down", Target::down, s.ffn, s.width}}};
}

}  // namespace lorashard::core
