// A Hugging Face directory (config.json, model.safetensors or a sharded one with an index), or a model of llama2.c ("....bin"),
// becomes a base file.
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

// GPT-2 (names with or without "transformer.") and the llama family, in F32, F16, BF16. Tensors pass through memory in pieces of at most `piece_elements` (and as much again, turned round), or one
// stored row. NaN or infinity in a weight is refused, by name. Nothing is left behind on failure. `progress(done,
// total)` counts tensors; it may be empty. Throws Failure::configuration naming file, field or tensor, found and
// expected; Failure::storage when `to` fails.
ImportReport import_base(const std::string& from, const std::string& to, kernels::DType dtype,
                         const std::function<void(Index, Index)>& progress = {},
                         Index piece_elements = Index{32} << 20);

}  // namespace lorashard::core
