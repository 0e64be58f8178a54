// A Hugging Face directory (config.json, model.safetensors or a sharded one with an index) becomes a base file.
#pragma once

#include <functional>
#include <string>

#include "core/config.hpp"
#include "core/digest.hpp"

namespace lorashard::core {

struct ImportReport {
  ModelShape shape;
  Digest digest;
  Index tensors = 0;
  Index bytes = 0;  // of the file written
};

// GPT-2: names with or without the "transformer." prefix, linear weights stored (in, out), fused c_attn, F32, F16, BF16.
// Tensor by tensor, so host memory stays at one tensor's size. NaN or infinity in a weight is refused, by name.
// Nothing is left behind on failure. `progress(done, total)` may be empty.
ImportReport import_base(const std::string& from, const std::string& to, kernels::DType dtype,
                         const std::function<void(Index, Index)>& progress = {});

}  // namespace lorashard::core
