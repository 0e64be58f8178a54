// How near generated texts come to what people wrote: the scores of the E2E challenge (Dusek et al. 2020, arXiv
// 1901.07931), each over all texts together, as its own scripts compute them (github.com/tuetschek/e2e-metrics). Case
// does not count. Every score is defined for empty outputs, single references and no match at all; where the scripts
// would divide by zero, the term is 0. There is at least one text, each has a reference, and all are UTF-8.
#pragma once

#include <span>

#include "core/scored_texts.hpp"

namespace lorashard::core {

// BLEU, Papineni et al. 2002: geometric mean of the shares of runs of 1 to 4 words that a reference has too, times the
// penalty for shortness. 0 to 1. A share of nothing counts as 1e-15 hits, so that no match is almost 0.
double bleu(std::span<const ScoredText> texts);
// NIST, Doddington 2002: the mean information, in bits, of matched runs of 1 to 5 words, summed over the lengths. From
// 0; there is no upper bound.
double nist(std::span<const ScoredText> texts);
// ROUGE-L, Lin 2004: F-measure of the longest common subsequence, recall weighted 1.2 squared, from the best precision
// and the best recall of any reference; mean over texts. 0 to 1.
double rouge_l(std::span<const ScoredText> texts);
// CIDEr-D, Vedantam et al. 2015 (arXiv 1411.5726): cosine of TF-IDF weighted runs of 1 to 4 words, counts clipped,
// times 10; mean over references and texts. 0 to 10; 0 for a single text, in which every run is everywhere.
double cider(std::span<const ScoredText> texts);

struct TextScores {
  double bleu = 0, nist = 0, rouge_l = 0, cider = 0;
};
TextScores score(std::span<const ScoredText> texts);

}  // namespace lorashard::core
