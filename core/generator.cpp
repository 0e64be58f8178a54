#include "core/generator.hpp"

#include <algorithm>

namespace lorashard::core {

using kernels::fail;
using kernels::Failure;
using kernels::text;

Generator::Generator(Inference& model, const SamplingOptions& options, std::vector<std::int32_t> ends)
    : model_(model), options_(options), ends_(std::move(ends)) {}

// Tokens that a prompt and its completion may have.
Index Generator::room(const Prompt& prompt) const {
  const Index context = model_.shape().context, length = static_cast<Index>(prompt.tokens.size()), number = prompt.number;
  if (length == 0) fail(Failure::configuration, text("prompt ", number + 1, ": found no token, expected at least one"));
  if (length >= context)
    fail(Failure::configuration, text("prompt ", number + 1, ": found ", length, " tokens, expected less than the model's context ",
                                      context));
  return std::min(context, length + options_.most_tokens);
}

// The same whatever the mesh, and whichever prompts are completed beside it.
float Generator::drawn(const Prompt& prompt, Index position) const {
  return kernels::uniform({options_.seed, static_cast<std::uint64_t>(prompt.number)}, static_cast<std::uint64_t>(position));
}

std::span<float> Generator::row(std::vector<float>& logits, Index i) const {
  const auto vocab = static_cast<std::size_t>(model_.shape().vocab);
  return std::span(logits).subspan(static_cast<std::size_t>(i) * vocab, vocab);
}

std::vector<Generator::Tokens> Generator::complete(const std::vector<Prompt>& prompts, Index together, const Watch& watch) {
  std::vector<Tokens> made;
  for (const Prompt& prompt : prompts) room(prompt);
  if (options_.beams > 1) {
    for (std::size_t i = 0; i < prompts.size(); ++i) made.push_back(search(prompts[i], static_cast<Index>(i), watch));
    return made;
  }
  const auto step = static_cast<std::size_t>(together);
  for (std::size_t i = 0; i < prompts.size(); i += step)
    for (Tokens& tokens : sample(std::span(prompts).subspan(i, std::min(step, prompts.size() - i)), static_cast<Index>(i), watch))
      made.push_back(std::move(tokens));
  return made;
}

std::vector<Generator::Tokens> Generator::sample(std::span<const Prompt> prompts, Index first, const Watch& watch) {
  const Index count = static_cast<Index>(prompts.size());
  Index capacity = 0;
  std::vector<Tokens> made(prompts.size()), seen;
  for (const Prompt& prompt : prompts) {
    capacity = std::max(capacity, room(prompt));
    seen.push_back(prompt.tokens);
  }
  model_.reserve(count, capacity);
  std::vector<bool> over(prompts.size());
  std::vector<std::int32_t> next(prompts.size(), ends_.front());

  const auto is_end = [&](std::int32_t token) { return std::find(ends_.begin(), ends_.end(), token) != ends_.end(); };
  const auto take = [&](Index i, std::span<float> logits) {
    const auto at = static_cast<std::size_t>(i);
    Tokens& tokens = made[at];
    penalise(logits, seen[at], options_.repetition_penalty);
    next[at] = choose(logits, options_, drawn(prompts[at], static_cast<Index>(tokens.size())));
    tokens.push_back(next[at]);
    seen[at].push_back(next[at]);
    const bool ends = is_end(next[at]) || !watch(first + i, tokens);
    if (ends) tokens.pop_back();
    over[at] = ends || static_cast<Index>(seen[at].size()) >= room(prompts[at]);
  };

  if (options_.most_tokens < 1) return made;
  for (Index i = 0; i < count; ++i) {
    std::vector<float> logits = model_.prompt(i, prompts[static_cast<std::size_t>(i)].tokens);
    take(i, logits);
  }
  while (std::find(over.begin(), over.end(), false) != over.end()) {
    std::vector<float> logits = model_.step(next);  // what is over goes along
    for (Index i = 0; i < count; ++i)
      if (!over[static_cast<std::size_t>(i)]) take(i, row(logits, i));
  }
  return made;
}

Generator::Tokens Generator::search(const Prompt& prompt, Index place, const Watch& watch) {
  const Index room = this->room(prompt), beams = options_.beams;
  model_.reserve(beams, room);
  BeamSearch search(beams, options_.length_penalty, ends_);
  std::vector<float> logits = model_.prompt(0, prompt.tokens);
  for (Index length = static_cast<Index>(prompt.tokens.size()); length < room; ++length) {
    std::vector<std::vector<double>> scores;
    for (std::size_t b = 0; b < search.running().size(); ++b) {
      const std::span<float> own = row(logits, static_cast<Index>(b));
      std::vector<double> log_probabilities = log_softmax(own);
      if (options_.repetition_penalty != 1) {  // of the scores, as for sampling: then they are no longer probabilities
        std::vector<float> penalised(log_probabilities.begin(), log_probabilities.end());
        Tokens seen = prompt.tokens;
        const Tokens& made = search.running()[b].tokens;
        seen.insert(seen.end(), made.begin(), made.end());
        penalise(penalised, seen, options_.repetition_penalty);
        log_probabilities.assign(penalised.begin(), penalised.end());
      }
      scores.push_back(std::move(log_probabilities));
    }
    const std::vector<BeamSearch::Step> steps = search.advance(scores);
    if (search.done() || length + 1 == room) break;
    std::vector<Index> from(static_cast<std::size_t>(beams), 0);
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(beams), ends_.front());
    for (std::size_t b = 0; b < steps.size(); ++b) {
      from[b] = steps[b].parent;
      tokens[b] = steps[b].token;
    }
    model_.reorder(from);
    logits = model_.step(tokens);
  }
  Tokens best = search.best(), kept;
  for (const std::int32_t token : best) {
    kept.push_back(token);
    if (watch(place, kept)) continue;
    kept.pop_back();
    break;
  }
  return kept;
}

}  // namespace lorashard::core
