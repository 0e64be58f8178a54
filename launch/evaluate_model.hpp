// How well a model predicts held-out tokens: loss and perplexity of the whole and of each document.
#pragma once

#include "dist/runtime.hpp"
#include "launch/arguments.hpp"

namespace lorashard::launch {

// `evaluate --config`. Collective; the exit code.
int evaluate_model(dist::Runtime& runtime, const Arguments& arguments);

// A job whose model only runs forward: what concerns training alone is made harmless. `adapter` wins over adapter.init when it
// is not empty.
core::Config forward_only(core::Config config, const std::string& adapter, int ranks);

}  // namespace lorashard::launch
