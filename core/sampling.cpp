#include "core/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

namespace lorashard::core {
namespace {

// The `count` likeliest ids, likeliest first; of equals the lower one.
std::vector<std::int32_t> likeliest(std::span<const float> logits, Index count) {
  std::vector<std::int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto before = [&](std::int32_t a, std::int32_t b) {
    return logits[static_cast<std::size_t>(a)] != logits[static_cast<std::size_t>(b)]
               ? logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)]
               : a < b;
  };
  const auto end = ids.begin() + std::min<Index>(count, static_cast<Index>(ids.size()));
  std::partial_sort(ids.begin(), end, ids.end(), before);
  ids.erase(end, ids.end());
  return ids;
}

}  // namespace

void penalise(std::span<float> logits, const std::vector<std::int32_t>& seen, double penalty) {
  if (penalty == 1) return;
  for (const std::int32_t id : std::set<std::int32_t>(seen.begin(), seen.end())) {
    float& score = logits[static_cast<std::size_t>(id)];
    score = static_cast<float>(score < 0 ? score * penalty : score / penalty);
  }
}

std::int32_t choose(std::span<const float> logits, const SamplingOptions& options, double uniform) {
  if (options.temperature == 0)
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  const Index all = static_cast<Index>(logits.size());
  const std::vector<std::int32_t> ids = likeliest(logits, options.top_k == 0 ? all : options.top_k);
  std::vector<double> weights;
  double sum = 0;
  for (const std::int32_t id : ids) {
    const double above = logits[static_cast<std::size_t>(id)] - logits[static_cast<std::size_t>(ids.front())];
    weights.push_back(std::exp(above / options.temperature));
    sum += weights.back();
  }
  std::size_t kept = 0;
  double kept_sum = 0;
  while (kept < weights.size() && (kept == 0 || kept_sum < options.top_p * sum)) kept_sum += weights[kept++];
  double left = uniform * kept_sum;
  for (std::size_t i = 0; i < kept; ++i)
    if ((left -= weights[i]) < 0) return ids[i];
  return ids[kept - 1];
}

std::vector<double> log_softmax(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - largest);
  std::vector<double> result;
  result.reserve(logits.size());
  for (const float x : logits) result.push_back(x - largest - std::log(sum));
  return result;
}

BeamSearch::BeamSearch(Index beams, double length_penalty, std::vector<std::int32_t> ends)
    : beams_(beams), length_penalty_(length_penalty), ends_(std::move(ends)) {}

double BeamSearch::score(const Beam& beam, Index length) const {
  return beam.log_probability / std::pow(static_cast<double>(std::max<Index>(length, 1)), length_penalty_);
}

std::vector<BeamSearch::Step> BeamSearch::advance(const std::vector<std::vector<double>>& scores) {
  struct Candidate {
    double log_probability;
    Step step;
  };
  std::vector<Candidate> candidates;
  for (std::size_t parent = 0; parent < running_.size(); ++parent)
    for (std::size_t token = 0; token < scores[parent].size(); ++token)
      candidates.push_back({running_[parent].log_probability + scores[parent][token],
                            {static_cast<Index>(parent), static_cast<std::int32_t>(token)}});
  // Twice as many as beams: however many of them end, enough go on.
  const std::size_t looked_at = std::min<std::size_t>(candidates.size(), static_cast<std::size_t>(2 * beams_));
  std::partial_sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(looked_at), candidates.end(),
                    [](const Candidate& a, const Candidate& b) {
                      if (a.log_probability != b.log_probability) return a.log_probability > b.log_probability;
                      return std::pair(a.step.parent, a.step.token) < std::pair(b.step.parent, b.step.token);
                    });
  std::vector<Beam> next;
  std::vector<Step> steps;
  for (std::size_t i = 0; i < looked_at && static_cast<Index>(next.size()) < beams_; ++i) {
    const Candidate& c = candidates[i];
    Beam beam = running_[static_cast<std::size_t>(c.step.parent)];
    beam.log_probability = c.log_probability;
    if (std::find(ends_.begin(), ends_.end(), c.step.token) != ends_.end()) {
      if (static_cast<Index>(i) < beams_) {  // one below that would not have been kept
        const double final = score(beam, static_cast<Index>(beam.tokens.size()) + 1);
        finished_.emplace_back(final, std::move(beam));
      }
      continue;
    }
    beam.tokens.push_back(c.step.token);
    next.push_back(std::move(beam));
    steps.push_back(c.step);
  }
  std::stable_sort(finished_.begin(), finished_.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  if (static_cast<Index>(finished_.size()) > beams_) finished_.resize(static_cast<std::size_t>(beams_));
  running_ = std::move(next);
  done_ = running_.empty() || (static_cast<Index>(finished_.size()) == beams_ &&
                               score(running_.front(), static_cast<Index>(running_.front().tokens.size())) <= finished_.back().first);
  return steps;
}

std::vector<std::int32_t> BeamSearch::best() const {
  const Beam* best = finished_.empty() ? nullptr : &finished_.front().second;
  double highest = finished_.empty() ? -HUGE_VAL : finished_.front().first;
  if (!done_)
    for (const Beam& beam : running_)
      if (const double now = score(beam, static_cast<Index>(beam.tokens.size())); now > highest) {
        highest = now;
        best = &beam;
      }
  return best ? best->tokens : std::vector<std::int32_t>{};
}

}  // namespace lorashard::core
