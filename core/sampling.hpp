// Which token comes next, given the logits of all. Plain host code.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "kernels/random.hpp"
#include "kernels/view.hpp"

namespace lorashard::core {

using kernels::Index;

struct SamplingOptions {
  Index most_tokens = 100;        // made for one prompt
  double temperature = 0;         // 0: always the likeliest token
  Index top_k = 0;                // draw from the likeliest k; 0: from all
  double top_p = 1;               // from the likeliest that together have at least this probability
  double repetition_penalty = 1;  // Keskar et al. 2019 (arXiv 1909.05858), section 4.1: scores of tokens that occurred
  Index beams = 1;                // above 1: beam search, and nothing is drawn
  double length_penalty = 1;      // of beam search: a hypothesis' score is its log-probability over length^penalty
  std::uint64_t seed = 1;
  std::vector<std::string> stop;  // texts that end a completion; they are not part of it
};

// Scores of tokens that are in `seen` are divided by the penalty where positive, multiplied where negative; each once.
void penalise(std::span<float> logits, const std::vector<std::int32_t>& seen, double penalty);

// The next token. `uniform` in [0, 1) decides where one is drawn; ties go to the lower id.
std::int32_t choose(std::span<const float> logits, const SamplingOptions& options, double uniform);

// The log-probabilities of the logits.
std::vector<double> log_softmax(std::span<const float> logits);

// Beam search for one prompt: Graves 2012 (arXiv 1211.3711), with the length penalty as a power of the length. Ends when no
// running hypothesis can beat the worst of `beams` finished ones, at its score so far over its present length.
class BeamSearch {
 public:
  struct Beam {
    std::vector<std::int32_t> tokens;  // made so far
    double log_probability = 0;
  };
  struct Step {
    Index parent = 0;  // which beam of before it goes on from
    std::int32_t token = 0;
  };

  // `ends`: each of these tokens ends a hypothesis.
  BeamSearch(Index beams, double length_penalty, std::vector<std::int32_t> ends);

  // One at first, then `beams`.
  const std::vector<Beam>& running() const { return running_; }
  bool done() const { return done_; }
  // Log-probabilities (or penalised scores) of each running beam's next token. Returns how the new running beams came about.
  std::vector<Step> advance(const std::vector<std::vector<double>>& scores);
  // The best hypothesis, without its end; the running ones count as they are.
  std::vector<std::int32_t> best() const;

 private:
  double score(const Beam& beam, Index length) const;

  Index beams_;
  double length_penalty_;
  std::vector<std::int32_t> ends_;
  std::vector<Beam> running_{1};
  std::vector<std::pair<double, Beam>> finished_;  // best first
  bool done_ = false;
};

}  // namespace lorashard::core
