// BLEU and NIST. Their lengths are sums over texts of (words - n + 1), which is below 0 for a text of fewer words: that
// is how the scripts count, and it is kept.
#include "core/text_scores.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/score_words.hpp"

namespace lorashard::core {
namespace {

using kernels::Index;

struct Cut {
  Words output;
  std::vector<Words> references;
};

std::vector<Cut> cut_all(std::span<const ScoredText> texts) {
  std::vector<Cut> all;
  for (const ScoredText& text : texts) {
    Cut cut{mteval_words(text.output), {}};
    for (const std::string& reference : text.references) cut.references.push_back(mteval_words(reference));
    all.push_back(std::move(cut));
  }
  return all;
}

// Runs of the output that occur in a reference, each as often as it does in that reference which has most of it.
NgramCounts matches(const Cut& cut, int n) {
  NgramCounts most;
  for (const Words& reference : cut.references)
    for (const auto& [run, count] : count_ngrams(reference, n)) most[run] = std::max(most[run], count);
  NgramCounts matched;
  for (const auto& [run, count] : count_ngrams(cut.output, n))
    if (const auto found = most.find(run); found != most.end()) matched[run] = std::min(count, found->second);
  return matched;
}

Index length_of(const Words& words, int n) { return std::ssize(words) - n + 1; }

// Of the reference that is nearest in length; the shorter of two.
Index nearest_length(const Cut& cut) {
  const Index own = std::ssize(cut.output);
  const auto distance = [own](const Words& words) {
    const Index length = std::ssize(words);
    return std::pair(std::abs(length - own), length);
  };
  const auto nearest = std::min_element(cut.references.begin(), cut.references.end(),
                                        [&](const Words& a, const Words& b) { return distance(a) < distance(b); });
  return std::ssize(*nearest);
}

// Down to half at two thirds of the references' length, and from there to nothing.
double shortness_penalty(double ratio) {
  if (ratio >= 1) return 1;
  const double beta = std::log(2) / std::pow(std::log(1.5), 2);
  return ratio <= 0 ? 0 : std::exp(-beta * std::pow(std::log(ratio), 2));
}

constexpr int kNistLength = 5;

// How often each run occurs in all references: [n] of n words; [0] is the empty run, which every word follows.
using RunCounts = std::array<NgramCounts, kNistLength + 1>;

RunCounts runs_of_references(const std::vector<Cut>& all) {
  RunCounts runs;
  for (const Cut& cut : all)
    for (const Words& words : cut.references) {
      runs[0][""] += std::ssize(words);
      for (int n = 1; n <= kNistLength; ++n)
        for (const auto& [run, count] : count_ngrams(words, n)) runs[n][run] += count;
    }
  return runs;
}

// Bits that the last word of a run adds to those before it.
double information(const RunCounts& runs, int n, const std::string& run) {
  const std::string before = n == 1 ? "" : run.substr(0, run.rfind(' '));
  return std::log2(static_cast<double>(runs[n - 1].at(before)) / static_cast<double>(runs[n].at(run)));
}

}  // namespace

double bleu(std::span<const ScoredText> texts) {
  constexpr int kLength = 4;
  constexpr double kLeastMatched = 1e-15, kLeastLength = 1e-9;
  const std::vector<Cut> all = cut_all(texts);
  double log_sum = 0;
  for (int n = 1; n <= kLength; ++n) {
    Index matched = 0, length = 0;
    for (const Cut& cut : all) {
      for (const auto& [run, count] : matches(cut, n)) matched += count;
      length += length_of(cut.output, n);
    }
    log_sum += std::log(std::max(static_cast<double>(matched), kLeastMatched) /
                        std::max(static_cast<double>(length), kLeastLength));
  }
  Index length = 0, reference_length = 0;
  for (const Cut& cut : all) {
    length += std::ssize(cut.output);
    reference_length += nearest_length(cut);
  }
  const double shorter = std::min(0.0, 1 - static_cast<double>(reference_length) / static_cast<double>(length));
  return std::exp(shorter + log_sum / kLength);
}

double nist(std::span<const ScoredText> texts) {
  const std::vector<Cut> all = cut_all(texts);
  const RunCounts runs = runs_of_references(all);
  double sum = 0;
  for (int n = 1; n <= kNistLength; ++n) {
    double bits = 0;
    Index length = 0;
    for (const Cut& cut : all) {
      double here = 0;
      for (const auto& [run, count] : matches(cut, n)) here += static_cast<double>(count) * information(runs, n, run);
      bits += here;
      length += length_of(cut.output, n);
    }
    if (length != 0) sum += bits / static_cast<double>(length);
  }
  double length = 0, reference_length = 0;  // the mean of each text's references
  for (const Cut& cut : all) {
    length += static_cast<double>(cut.output.size());
    double words = 0;
    for (const Words& reference : cut.references) words += static_cast<double>(reference.size());
    reference_length += words / static_cast<double>(cut.references.size());
  }
  return shortness_penalty(length / reference_length) * sum;
}

TextScores score(std::span<const ScoredText> texts) { return {bleu(texts), nist(texts), rouge_l(texts), cider(texts)}; }

}  // namespace lorashard::core
