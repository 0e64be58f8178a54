// A vocabulary with rules to join its tokens: one piece of text to ids, as Hugging Face's "BPE" model does it.
#pragma once

#include <array>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/byte_pairs.hpp"

namespace lorashard::core {

using Vocabulary = std::unordered_map<std::string, std::int32_t>;

struct BpeParts {
  Vocabulary vocabulary;
  BytePairs pairs;
  std::vector<std::pair<std::int32_t, std::int32_t>> joints;  // (left, right) of every rule in `pairs`
  std::optional<std::int32_t> unknown;                        // stands for characters that have no token
  bool fuse_unknown = false;                                  // one for a run of them
  bool ignore_merges = false;  // a piece that is a token is that token, whatever the rules make of it
  // By byte: characters without a token become these. Where one is missing, the character is unknown.
  std::optional<std::array<std::optional<std::int32_t>, 256>> byte_tokens;
};

class BpeModel {
 public:
  // Symbols are characters; every rule's tokens are in the vocabulary.
  explicit BpeModel(BpeParts parts);
  // Appends the ids of a piece, valid UTF-8. Throws Failure::configuration for a character that nothing stands for (the
  // reference drops it, and what is learned from such a text is another text). n log n, however long the piece.
  void append(std::string_view piece, std::vector<std::int32_t>& ids) const;
  const Vocabulary& vocabulary() const { return parts_.vocabulary; }

 private:
  std::vector<std::int32_t> symbols_of(std::string_view run) const;
  std::optional<std::int32_t> character(std::string_view piece, std::size_t& at) const;
  std::size_t run_end(std::string_view piece, std::size_t at) const;
  void append_run(std::string_view run, std::vector<std::int32_t>& ids) const;

  BpeParts parts_;
  std::array<std::int32_t, 128> ascii_;      // -1: no token
  std::unordered_set<std::uint64_t> seams_;  // characters that a rule can bring together
  mutable std::mutex mutex_;                 // of known_: append may be called by many threads
  mutable std::unordered_map<std::string, std::vector<std::int32_t>> known_;
};

}  // namespace lorashard::core
