// Completions of prompts: token after token on the sharded model, several prompts at a time.
#pragma once

#include <functional>
#include <vector>

#include "core/inference.hpp"
#include "core/sampling.hpp"

namespace lorashard::core {

class Generator {
 public:
  // `end`: the token after which a completion is over.
  Generator(Inference& model, const SamplingOptions& options, std::int32_t end);

  // Told of each token of prompt `prompt` when it is made (with beams: of all of them at the end), with all that the prompt
  // has so far; returns false to end its completion there, and then this token does not count.
  using Watch = std::function<bool(Index prompt, const std::vector<std::int32_t>& tokens)>;

  // The completions, in the prompts' order, without prompts and ends. `first`: number of the first prompt among all of the
  // job, which decides what is drawn for it. At most `together` prompts at a time. Throws Failure::configuration when one
  // is empty, or fills the model's context. Collective over tensor and pipeline.
  std::vector<std::vector<std::int32_t>> complete(const std::vector<std::vector<std::int32_t>>& prompts, Index first,
                                                  Index together, const Watch& watch);

 private:
  using Tokens = std::vector<std::int32_t>;
  std::vector<Tokens> sample(std::span<const Tokens> prompts, Index first, const Watch& watch);
  Tokens search(const Tokens& prompt, Index number, const Watch& watch);
  Index room(const Tokens& prompt, Index number) const;
  float drawn(Index prompt, Index position) const;
  std::span<float> row(std::vector<float>& logits, Index i) const;

  Inference& model_;
  SamplingOptions options_;
  std::int32_t end_;
};

}  // namespace lorashard::core
