#include "core/byte_pairs.hpp"

#include <functional>
#include <queue>
#include <utility>

namespace lorashard::core {
namespace {

using Place = std::ptrdiff_t;
constexpr Place kNone = -1;

struct Symbol {
  std::int32_t id;  // negative once it was joined to the symbol before it
  Place before, after;
};

std::uint64_t key(std::int32_t left, std::int32_t right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

}  // namespace

bool BytePairs::add(std::int32_t left, std::int32_t right, std::int32_t result) {
  ++ranks_;
  return add_equal(left, right, result);
}

bool BytePairs::add_equal(std::int32_t left, std::int32_t right, std::int32_t result) {
  return rules_.emplace(key(left, right), Rule{ranks_, result}).second;
}

const BytePairs::Rule* BytePairs::find(std::int32_t left, std::int32_t right) const {
  const auto found = rules_.find(key(left, right));
  return found == rules_.end() ? nullptr : &found->second;
}

std::vector<std::int32_t> BytePairs::joined(const std::vector<std::int32_t>& word) const {
  const Place n = static_cast<Place>(word.size());
  std::vector<Symbol> symbols;
  for (Place i = 0; i < n; ++i) symbols.push_back({word[i], i - 1, i + 1 < n ? i + 1 : kNone});

  // Candidates by (rank, place). An entry is stale when the symbols at its place no longer follow the rule of its rank.
  using Candidate = std::pair<std::int32_t, Place>;
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  const auto rule_at = [&](Place i) -> const Rule* {
    if (i == kNone || symbols[i].id < 0 || symbols[i].after == kNone) return nullptr;
    return find(symbols[i].id, symbols[symbols[i].after].id);
  };
  const auto consider = [&](Place i) {
    if (const Rule* rule = rule_at(i)) candidates.emplace(rule->rank, i);
  };

  for (Place i = 0; i < n; ++i) consider(i);
  while (!candidates.empty()) {
    const auto [rank, at] = candidates.top();
    candidates.pop();
    const Rule* rule = rule_at(at);
    if (rule == nullptr || rule->rank != rank) continue;
    Symbol& left = symbols[at];
    Symbol& right = symbols[left.after];
    left.id = rule->result;
    left.after = right.after;
    if (right.after != kNone) symbols[right.after].before = at;
    right.id = -1;
    consider(left.before);
    consider(at);
  }

  std::vector<std::int32_t> ids;
  for (const Symbol& symbol : symbols)
    if (symbol.id >= 0) ids.push_back(symbol.id);
  return ids;
}

}  // namespace lorashard::core
