// Byte-pair encoding's one step (Sennrich et al. 2016): join neighbours until no rule applies.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace lorashard::core {

class BytePairs {
 public:
  // Rules are added in order of rank. False when (left, right) has a rule already.
  bool add(std::int32_t left, std::int32_t right, std::int32_t result);
  // A rule of the same rank as the one before it, where there is one.
  bool add_equal(std::int32_t left, std::int32_t right, std::int32_t result);
  // Joins the pair of lowest rank, the leftmost of equals, again and again. n log n, however long the word.
  std::vector<std::int32_t> joined(const std::vector<std::int32_t>& word) const;

 private:
  struct Rule {
    std::int32_t rank, result;
  };
  const Rule* find(std::int32_t left, std::int32_t right) const;
  std::unordered_map<std::uint64_t, Rule> rules_;
  std::int32_t ranks_ = 0;
};

}  // namespace lorashard::core
