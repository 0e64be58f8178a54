#include "core/scored_texts.hpp"

#include <map>

#include "core/prompt_pairs.hpp"
#include "core/text_file.hpp"
#include "core/utf8.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;

bool next_line(LineReader& lines, std::string& line) {
  if (!lines.next(line)) return false;
  if (const std::size_t at = invalid_utf8_at(line); at != std::string::npos)
    fail(Failure::configuration, text(lines.where(), ": byte ", at, ": found no UTF-8, expected UTF-8 text"));
  return true;
}

}  // namespace

std::vector<ScoredText> read_scored_texts(const std::string& outputs, const std::string& references) {
  std::vector<ScoredText> texts;
  std::map<std::string, std::size_t, std::less<>> place_of;  // by prompt
  std::string line;
  for (LineReader lines(references); next_line(lines, line);) {
    const PromptPair pair = split_pair(line, lines.where());
    const auto [place, first] = place_of.try_emplace(std::string(pair.prompt), texts.size());
    if (first) texts.emplace_back();
    texts[place->second].references.emplace_back(pair.completion);
  }
  if (texts.empty()) fail(Failure::configuration, text(references, ": found no line, expected prompt||completion"));
  std::size_t count = 0;
  for (LineReader lines(outputs); next_line(lines, line); ++count)
    if (count < texts.size()) texts[count].output = line;
  if (count != texts.size())
    fail(Failure::configuration, text(outputs, ": found ", count, " lines, expected ", texts.size(),
                                      ", one for each distinct prompt of ", references));
  return texts;
}

}  // namespace lorashard::core
