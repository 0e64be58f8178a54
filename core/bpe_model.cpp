#include "core/bpe_model.hpp"

#include "core/quote.hpp"
#include "core/utf8.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {
namespace {

// Runs seen are kept with their ids: text repeats itself. The bounds hold the cache below some 30 MB.
constexpr std::size_t kMostRuns = 1 << 17, kLongestRun_bytes = 64;

std::uint64_t key(std::int32_t left, std::int32_t right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

// The first and the last character of a text that has one.
std::string first_of(const std::string& text) {
  std::size_t at = 0;
  next_code_point(text, at);
  return text.substr(0, at);
}
std::string last_of(const std::string& text) {
  std::size_t at = text.size() - 1;
  while (at > 0 && (text[at] & 0xC0) == 0x80) --at;
  return text.substr(at);
}

}  // namespace

BpeModel::BpeModel(BpeParts parts) : parts_(std::move(parts)) {
  ascii_.fill(-1);
  std::unordered_map<std::int32_t, const std::string*> text_of;
  for (const auto& [token, id] : parts_.vocabulary) {
    if (token.size() == 1 && static_cast<unsigned char>(token[0]) < 0x80)
      ascii_[static_cast<unsigned char>(token[0])] = id;
    text_of.emplace(id, &token);
  }
  const auto id_of = [&](const std::string& character) {
    const auto found = parts_.vocabulary.find(character);
    return found == parts_.vocabulary.end() ? -1 : found->second;
  };
  for (const auto& [left, right] : parts_.joints)
    seams_.insert(key(id_of(last_of(*text_of.at(left))), id_of(first_of(*text_of.at(right)))));
  parts_.joints = {};
}

// The token of the character at `at`, which moves behind it.
std::optional<std::int32_t> BpeModel::character(std::string_view piece, std::size_t& at) const {
  const auto byte = static_cast<unsigned char>(piece[at]);
  if (byte < 0x80) {
    ++at;
    return ascii_[byte] < 0 ? std::nullopt : std::optional(ascii_[byte]);
  }
  const std::size_t start = at;
  next_code_point(piece, at);
  const auto found = parts_.vocabulary.find(std::string(piece.substr(start, at - start)));
  return found == parts_.vocabulary.end() ? std::nullopt : std::optional(found->second);
}

// Where a run ends that no rule joins to what follows it, nor unknown characters to one another: the ids of both sides
// are then those of the whole. Without it a text that nothing cut into words would be one long word.
std::size_t BpeModel::run_end(std::string_view piece, std::size_t at) const {
  std::optional<std::int32_t> left = character(piece, at);
  while (at < piece.size()) {
    std::size_t after = at;
    const std::optional<std::int32_t> right = character(piece, after);
    if (left && right && !seams_.contains(key(*left, *right))) break;
    left = right;
    at = after;
  }
  return at;
}

std::vector<std::int32_t> BpeModel::symbols_of(std::string_view run) const {
  std::vector<std::int32_t> symbols;
  bool pending = false;  // an unknown character that is not among the symbols yet, in case another one follows
  const auto settle = [&] {
    if (pending) symbols.push_back(*parts_.unknown);
    pending = false;
  };
  for (std::size_t at = 0; at < run.size();) {
    const std::size_t start = at;
    if (const auto id = character(run, at)) {
      settle();
      symbols.push_back(*id);
      continue;
    }
    const std::string_view bytes = run.substr(start, at - start);
    bool spelled = parts_.byte_tokens.has_value();
    for (const unsigned char byte : bytes) spelled = spelled && (*parts_.byte_tokens)[byte];
    if (spelled) {
      for (const unsigned char byte : bytes) symbols.push_back(*(*parts_.byte_tokens)[byte]);
      continue;
    }
    if (!parts_.unknown)
      kernels::fail(kernels::Failure::configuration,
                    kernels::text("the vocabulary has no token for ", in_quotes(bytes), " and none for unknown text"));
    if (!parts_.fuse_unknown) settle();
    pending = true;
  }
  settle();
  return symbols;
}

void BpeModel::append_run(std::string_view run, std::vector<std::int32_t>& ids) const {
  const bool kept = run.size() <= kLongestRun_bytes;
  const std::string word(kept ? run : "");
  if (kept) {
    const std::lock_guard lock(mutex_);
    const auto known = known_.find(word);
    if (known != known_.end()) {
      ids.insert(ids.end(), known->second.begin(), known->second.end());
      return;
    }
  }
  std::vector<std::int32_t> symbols = parts_.pairs.joined(symbols_of(run));
  ids.insert(ids.end(), symbols.begin(), symbols.end());
  if (!kept) return;
  const std::lock_guard lock(mutex_);
  if (known_.size() >= kMostRuns) known_.clear();
  known_.emplace(word, std::move(symbols));
}

void BpeModel::append(std::string_view piece, std::vector<std::int32_t>& ids) const {
  if (parts_.ignore_merges) {
    const auto whole = parts_.vocabulary.find(std::string(piece));
    if (whole != parts_.vocabulary.end()) return ids.push_back(whole->second);
  }
  if (piece.size() <= kLongestRun_bytes) return append_run(piece, ids);
  for (std::size_t at = 0; at < piece.size();) {
    const std::size_t end = run_end(piece, at);
    append_run(piece.substr(at, end - at), ids);
    at = end;
  }
}

}  // namespace lorashard::core
