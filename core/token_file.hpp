// A token file as values, written and read in one place: dataset.hpp says what is in it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/digest.hpp"
#include "kernels/view.hpp"

namespace lorashard::core {

inline constexpr std::int32_t kUnscored = -100;

struct TokenFile {
  bool packed = true;  // kind "text", else "rows"
  std::string tokenizer;
  kernels::Index vocab = 0;
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> labels;  // beside tokens, or empty: every token is scored
  std::vector<std::int64_t> offsets{0};
  std::string tokenizer_digest{};  // of its files; empty where there are none, and in older token files

  kernels::Index documents() const { return static_cast<kernels::Index>(offsets.size()) - 1; }
  // The label of token `at`.
  std::int32_t label(std::size_t at) const { return labels.empty() ? tokens[at] : labels[at]; }
  // Tokens that some row asks for: the first of a document is never predicted, the first of a packed text neither.
  kernels::Index scored() const;
  // Of everything above.
  Digest digest() const;
};

// Writes "<path>.partial", then renames: a file that exists is whole, and a failure leaves nothing behind. Labels that
// equal the tokens are left out. Throws Failure::storage.
void write_token_file(const std::string& path, TokenFile content);

// Reads and checks everything. Throws Failure::storage for a file that is damaged or is no HDF5, Failure::configuration
// for one that holds something else; both name the file and the field.
TokenFile read_token_file(const std::string& path);

}  // namespace lorashard::core
