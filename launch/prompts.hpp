// What a job completes: prompts, and the adapter of each.
#pragma once

#include <string>
#include <vector>

#include "core/inference.hpp"
#include "launch/arguments.hpp"

namespace lorashard::launch {

// What a shell can hardly say: \n, \t and \\.
std::string unescaped(const std::string& written);

// The lines of --adapters, none without it: paths, each of which is there, and empty strings for "-", the base alone.
// Throws Failure::configuration naming file and line, and where --adapter is given as well.
std::vector<std::string> adapters_of(const Arguments& arguments);

// --adapter-memory, in bytes.
core::Index adapter_memory(const Arguments& arguments);

struct Prompt {
  std::string text, adapter;  // adapter: empty for what the job has anyway
  bool operator==(const Prompt&) const = default;
};
// Of --prompt or --prompts, with --adapters a line for each; the same twice is there once. Throws
// Failure::configuration.
std::vector<Prompt> prompts_of(const Arguments& arguments);

// What switching took on this rank, beside the passes of the model.
std::string switching_text(const core::Inference& model);

}  // namespace lorashard::launch
