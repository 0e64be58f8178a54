// How the scores of core/text_scores.hpp cut a text into words, and runs of words. Texts are valid UTF-8.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/view.hpp"

namespace lorashard::core {

using Words = std::vector<std::string>;

// As mteval-v13a cuts a line, in lower case: the entities of < > & " are read, ASCII punctuation stands alone, but for
// apostrophes, periods and commas between digits, and dashes that follow no digit. An empty text is one empty word, as
// in the challenge's port of it.
Words mteval_words(std::string_view line);
// Lower case, cut at white space alone; none for an empty text.
Words plain_words(std::string_view line);

// Runs of n words with how often each occurs. The words of a run are joined by blanks, which no word has in it.
using NgramCounts = std::map<std::string, kernels::Index>;
NgramCounts count_ngrams(const Words& words, int n);

}  // namespace lorashard::core
