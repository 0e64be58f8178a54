// A document's tokens with what of them is to be learned.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/token_file.hpp"
#include "core/tokenizer.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {

struct ScoredIds {
  std::vector<std::int32_t> ids, labels;

  void add(std::int32_t id, bool scored) {
    ids.push_back(id);
    labels.push_back(scored ? id : kUnscored);
  }
  void add(const std::vector<std::int32_t>& more, bool scored) {
    for (const std::int32_t id : more) add(id, scored);
  }
};

// Encodes text from a file: markers in it stay text. What the tokenizer objects to is told with its place.
inline std::vector<std::int32_t> encoded(const Tokenizer& tokenizer, std::string_view source, const std::string& where,
                                         bool continues = false) {
  try {
    return tokenizer.encode(source, {.continues = continues});
  } catch (const kernels::Error& error) {
    kernels::fail(error.failure(), kernels::text(where, ": ", error.what()));
  }
}

}  // namespace lorashard::core
