// ROUGE-L and CIDEr as the COCO captions' scripts have them.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/score_words.hpp"
#include "core/text_scores.hpp"

namespace lorashard::core {
namespace {

using kernels::Index;

Index longest_common_subsequence(const Words& a, const Words& b) {
  std::vector<Index> row(b.size() + 1);  // of a's words so far, against each beginning of b
  for (const std::string& word : a) {
    Index diagonal = 0;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const Index above = row[j];
      row[j] = word == b[j - 1] ? diagonal + 1 : std::max(above, row[j - 1]);
      diagonal = above;
    }
  }
  return row.back();
}

// An empty text is one empty word, which is none of another text's.
Words words_or_empty(const std::string& text) {
  Words words = plain_words(text);
  if (words.empty()) words.emplace_back();
  return words;
}

double rouge_l_of(const ScoredText& text) {
  constexpr double kRecallWeight = 1.2 * 1.2;
  const Words output = words_or_empty(text.output);
  double precision = 0, recall = 0;
  for (const std::string& each : text.references) {
    const Words reference = words_or_empty(each);
    const auto common = static_cast<double>(longest_common_subsequence(output, reference));
    precision = std::max(precision, common / static_cast<double>(output.size()));
    recall = std::max(recall, common / static_cast<double>(reference.size()));
  }
  if (precision == 0) return 0;  // and so is recall
  return (1 + kRecallWeight) * precision * recall / (recall + kRecallWeight * precision);
}

constexpr int kLength = 4;
using Runs = std::array<NgramCounts, kLength>;  // [n - 1]: of n words

Runs runs_of(const std::string& text) {
  const Words words = plain_words(text);
  Runs runs;
  for (int n = 1; n <= kLength; ++n) runs[n - 1] = count_ngrams(words, n);
  return runs;
}

struct Cut {
  Runs output;
  std::vector<Runs> references;
};

// Texts that have a run in one of their references.
using TextCounts = NgramCounts;

TextCounts texts_with(const std::vector<Cut>& all) {
  TextCounts counts;
  for (const Cut& cut : all) {
    NgramCounts here;
    for (const Runs& runs : cut.references)
      for (const NgramCounts& of_length : runs)
        for (const auto& [run, count] : of_length) here[run] = 1;
    for (const auto& [run, one] : here) counts[run] += one;
  }
  return counts;
}

// A text as a vector for each length of runs.
struct Weighted {
  std::array<std::map<std::string, double>, kLength> weights;
  std::array<double, kLength> norms{};
  Index length = 0;  // in pairs of words
};

Weighted weighted(const Runs& runs, const TextCounts& texts, Index text_count) {
  Weighted result;
  for (int i = 0; i < kLength; ++i) {
    double squares = 0;
    for (const auto& [run, count] : runs[i]) {
      const auto found = texts.find(run);
      const double with = found == texts.end() ? 1 : static_cast<double>(found->second);
      const double weight = static_cast<double>(count) * (std::log(static_cast<double>(text_count)) - std::log(with));
      result.weights[i][run] = weight;
      squares += weight * weight;
    }
    result.norms[i] = std::sqrt(squares);
  }
  for (const auto& [pair, count] : runs[1]) result.length += count;
  return result;
}

// Mean over the lengths of runs. What the output has more of than the reference does not count.
double similarity(const Weighted& output, const Weighted& reference) {
  constexpr double kSigma = 6;
  double sum = 0;
  for (int i = 0; i < kLength; ++i) {
    double product = 0;
    for (const auto& [run, weight] : output.weights[i])
      if (const auto found = reference.weights[i].find(run); found != reference.weights[i].end())
        product += std::min(weight, found->second) * found->second;
    const double norms = output.norms[i] * reference.norms[i];
    if (norms != 0) sum += product / norms;
  }
  const auto difference = static_cast<double>(output.length - reference.length);
  return sum / kLength * std::exp(-difference * difference / (2 * kSigma * kSigma));
}

}  // namespace

double rouge_l(std::span<const ScoredText> texts) {
  double sum = 0;
  for (const ScoredText& text : texts) sum += rouge_l_of(text);
  return sum / static_cast<double>(texts.size());
}

double cider(std::span<const ScoredText> texts) {
  std::vector<Cut> all;
  for (const ScoredText& text : texts) {
    Cut cut{runs_of(text.output), {}};
    for (const std::string& reference : text.references) cut.references.push_back(runs_of(reference));
    all.push_back(std::move(cut));
  }
  const TextCounts with = texts_with(all);
  double sum = 0;
  for (const Cut& cut : all) {
    const Weighted output = weighted(cut.output, with, std::ssize(all));
    double similarities = 0;
    for (const Runs& reference : cut.references)
      similarities += similarity(output, weighted(reference, with, std::ssize(all)));
    sum += 10 * similarities / static_cast<double>(cut.references.size());
  }
  return sum / static_cast<double>(texts.size());
}

}  // namespace lorashard::core
