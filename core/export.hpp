// What this program makes, for other programs: a base file as a Hugging Face model directory, a checkpoint's adapters as a PEFT
// directory. Whatever the mesh they were trained on, the files are the same.
#pragma once

#include <functional>
#include <string>

#include "core/config.hpp"

namespace lorashard::core {

struct ExportReport {
  std::string kind;  // "gpt2 model", "PEFT adapter"
  Index tensors = 0;
  Index bytes = 0;   // of the tensors
  Index files = 0;   // of tensors
};

// config.json and model.safetensors (more than one and their index above `file_bytes`), in the base's own element types. At
// most `piece_elements` are in memory, or a head's rows. Heads whose rotary pairs are neighbours are reordered.
// The directory is made; config.json comes last. Throws Failure::configuration when no family of the library has the
// shape, or when the directory holds a model; Failure::storage.
ExportReport export_base(const std::string& from, const std::string& to,
                         const std::function<void(Index, Index)>& progress = {}, Index piece_elements = Index{32} << 20,
                         Index file_bytes = Index{5'000'000'000});

// adapter_config.json, which stays anybody's to edit, and adapter_model.safetensors, which carries the digests of the
// base and of each tensor (safetensors.hpp). Where PEFT has one module for what we adapt in parts (GPT-2's c_attn), the
// parts become one adapter of their ranks' sum, exactly; where we adapt jointly what it has apart (llama's qkv) they
// get the same A. `base`: the base file, empty when the checkpoint's job knows it. Refuses a checkpoint with densely
// trained matrices, and a base of another digest.
ExportReport export_adapter(const std::string& checkpoint, const std::string& base, const std::string& to);

}  // namespace lorashard::core
