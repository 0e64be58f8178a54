#include "core/prompt_pairs.hpp"

#include "core/quote.hpp"
#include "kernels/error.hpp"
#include "kernels/view.hpp"

namespace lorashard::core {
namespace {

std::string_view without_blanks(std::string_view text) {
  constexpr const char* kBlank = " \t\r";
  const std::size_t first = text.find_first_not_of(kBlank);
  return first == text.npos ? "" : text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

}  // namespace

PromptPair split_pair(std::string_view line, const std::string& where) {
  const auto refuse = [&](const auto&... parts) {
    kernels::fail(kernels::Failure::configuration, kernels::text(where, ": ", parts...));
  };
  const std::size_t bar = line.find("||");
  if (bar == line.npos) refuse("found ", in_quotes(line), ", expected prompt||completion");
  const PromptPair pair{without_blanks(line.substr(0, bar)), without_blanks(line.substr(bar + 2))};
  if (pair.prompt.empty()) refuse("prompt: found nothing, expected text before ||");
  if (pair.completion.empty()) refuse("completion: found nothing, expected text after ||");
  return pair;
}

}  // namespace lorashard::core
