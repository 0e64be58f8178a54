// Completions of prompts: token after token on the sharded model, several prompts at a time.
#pragma once

#include <functional>
#include <vector>

#include "core/inference.hpp"
#include "core/sampling.hpp"

namespace lorashard::core {

class Generator {
 public:
  // `ends`: the tokens after which a completion is over, at least one.
  Generator(Inference& model, const SamplingOptions& options, std::vector<std::int32_t> ends);

  // Told of each token of prompt `prompt` (its place in the list) when it is made (with beams: of all of them at the end), with all that the prompt
  // has so far; returns false to end its completion there, and then this token does not count.
  using Watch = std::function<bool(Index prompt, const std::vector<std::int32_t>& tokens)>;

  struct Prompt {
    std::vector<std::int32_t> tokens;
    Index number = 0;  // among all of the job, which decides what is drawn for it
  };
  // The completions, in the prompts' order, without prompts and ends. At most `together` prompts at a time. Throws
  // Failure::configuration when one is empty, or fills the model's context. Collective over tensor and pipeline.
  std::vector<std::vector<std::int32_t>> complete(const std::vector<Prompt>& prompts, Index together, const Watch& watch);

 private:
  using Tokens = std::vector<std::int32_t>;
  // `first`: place of the first of them in the list.
  std::vector<Tokens> sample(std::span<const Prompt> prompts, Index first, const Watch& watch);
  Tokens search(const Prompt& prompt, Index place, const Watch& watch);
  Index room(const Prompt& prompt) const;
  float drawn(const Prompt& prompt, Index position) const;
  std::span<float> row(std::vector<float>& logits, Index i) const;

  Inference& model_;
  SamplingOptions options_;
  std::vector<std::int32_t> ends_;
};

}  // namespace lorashard::core
