// Texts that were generated, each with the texts that people wrote for the same prompt: what scores are made of.
#pragma once

#include <string>
#include <vector>

namespace lorashard::core {

struct ScoredText {
  std::string output;                   // may be empty
  std::vector<std::string> references;  // at least one
};

// `outputs`: one text a line, in the order in which the distinct prompts of `references` (prompt||completion lines)
// first appear there. Throws Failure::configuration, naming file and line, for what is not UTF-8 or no such line, and
// when the outputs are more or fewer than the prompts, or there are none.
std::vector<ScoredText> read_scored_texts(const std::string& outputs, const std::string& references);

}  // namespace lorashard::core
