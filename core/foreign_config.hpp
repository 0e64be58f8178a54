// config.json of a Hugging Face model directory: the shape of the model, and a refusal of what this program does not do.
#pragma once

#include <string>

#include "core/config.hpp"

namespace lorashard::core {

// model_type gpt2; or llama, mistral, qwen2, qwen3. Throws Failure::configuration naming file, key, found and expected.
ModelShape read_foreign_config(const std::string& path);

}  // namespace lorashard::core
