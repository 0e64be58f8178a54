// The tokenizer.bin of llama2.c (github.com/karpathy/llama2.c, run.c): tokens with scores. The neighbours whose union
// is the token of the highest score are joined, again and again, and bytes without a token are tokens from 3 on.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "core/bpe_model.hpp"
#include "core/digest.hpp"
#include "core/quote.hpp"
#include "core/text_file.hpp"
#include "core/tokenizer.hpp"
#include "core/utf8.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::Index;
using kernels::text;
using Ids = std::vector<std::int32_t>;

constexpr std::int32_t kBeginning = 1, kEnd = 2, kFirstByte = 3, kFirstText = kFirstByte + 256;
constexpr std::uint32_t kMostToken_bytes = 256;  // every cut of a token is tried for a rule

struct Scored {
  float score;
  std::string token;
};

template <class... Parts>
[[noreturn]] void refuse(const std::string& path, const Parts&... parts) {
  fail(Failure::configuration, text(path, ": ", parts...));
}

std::vector<Scored> read_tokens(const std::string& path, const std::string& content) {
  std::size_t at = 0;
  const auto take = [&](auto& number) {
    if (content.size() - at < sizeof number) refuse(path, "ends at byte ", content.size(), " within a token");
    std::memcpy(&number, content.data() + at, sizeof number);
    at += sizeof number;
  };
  std::uint32_t longest = 0;
  take(longest);
  if (longest == 0 || longest > kMostToken_bytes)
    refuse(path, "longest token: found ", longest, " bytes, expected 1 to ", kMostToken_bytes);
  std::vector<Scored> tokens;
  while (at < content.size()) {
    float score = 0;
    std::uint32_t bytes = 0;
    take(score);
    take(bytes);
    const std::string where = text("token ", tokens.size());
    // The markers in front may be longer than the longest: they are no text.
    if (bytes > kMostToken_bytes || bytes > content.size() - at)
      refuse(path, where, ": found ", bytes, " bytes, expected at most ",
             std::min<std::size_t>(kMostToken_bytes, content.size() - at));
    if (!std::isfinite(score)) refuse(path, where, ": score: found ", score, ", expected a finite number");
    tokens.push_back({score, content.substr(at, bytes)});
    if (invalid_utf8_at(tokens.back().token) != std::string::npos) refuse(path, where, ": found text that is no UTF-8");
    at += bytes;
  }
  if (tokens.size() < static_cast<std::size_t>(kFirstText))
    refuse(path, "found ", tokens.size(), " tokens, expected at least ", kFirstText, ": three markers and every byte");
  return tokens;
}

// A rule for every cut of a token into two; better scores first, equal ones of one rank.
BpeParts parts_of(const std::string& path, const std::vector<Scored>& tokens) {
  BpeParts parts;
  std::vector<std::int32_t> order;
  auto& bytes = parts.byte_tokens.emplace();
  for (std::int32_t byte = 0; byte < 256; ++byte) bytes[static_cast<std::size_t>(byte)] = kFirstByte + byte;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].token.empty()) continue;
    if (!parts.vocabulary.emplace(tokens[i].token, static_cast<std::int32_t>(i)).second)
      refuse(path, "token ", i, ": found ", in_quotes(tokens[i].token), " for the second time");
    order.push_back(static_cast<std::int32_t>(i));
  }
  const auto score = [&](std::int32_t id) { return tokens[static_cast<std::size_t>(id)].score; };
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return score(a) > score(b); });
  for (std::size_t i = 0; i < order.size(); ++i) {
    bool new_rank = i == 0 || score(order[i]) != score(order[i - 1]);
    const std::string& token = tokens[static_cast<std::size_t>(order[i])].token;
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = parts.vocabulary.find(token.substr(0, cut)), right = parts.vocabulary.find(token.substr(cut));
      if (left == parts.vocabulary.end() || right == parts.vocabulary.end()) continue;
      new_rank ? parts.pairs.add(left->second, right->second, order[i])
               : parts.pairs.add_equal(left->second, right->second, order[i]);
      new_rank = false;
      parts.joints.emplace_back(left->second, right->second);
    }
  }
  return parts;
}

class Llama2cTokenizer : public Tokenizer {
 public:
  Llama2cTokenizer(const std::string& path, const std::string& content, const std::vector<Scored>& tokens)
      : name_(std::filesystem::path(path).stem().string()),
        digest_(digest_of(content.data(), content.size()).hex()),
        frame_{{kBeginning}, {}},
        model_(parts_of(path, tokens)) {
    for (const Scored& token : tokens) tokens_.push_back(token.token);
  }

  Index vocab() const override { return static_cast<Index>(tokens_.size()); }
  std::optional<std::int32_t> find(std::string_view token) const override {
    // The file writes the two markers with line ends around them.
    if (token == "<s>") return kBeginning;
    if (token == "</s>") return kEnd;
    const auto found = model_.vocabulary().find(std::string(token));
    return found == model_.vocabulary().end() ? std::nullopt : std::optional(found->second);
  }
  std::int32_t end_of_text() const override { return kEnd; }
  std::optional<std::int32_t> beginning_of_text() const override { return kBeginning; }
  const Frame& frame() const override { return frame_; }
  const std::string& name() const override { return name_; }
  std::string digest() const override { return digest_; }

 protected:
  // As run.c: a space in front of a text that is not empty. It knows no markers in a text.
  void append_ids(std::string_view utf8, const Encoding& how, Ids& ids) const override {
    expect_utf8(utf8);
    if (!utf8.empty()) model_.append((how.continues ? "" : " ") + std::string(utf8), ids);
  }

  // As run.c: the text behind the beginning loses one space.
  std::string bytes_of(std::int32_t id, bool specials, Decoded& so_far) const override {
    const bool behind_beginning = so_far.before == kBeginning;
    so_far.before = id;
    const std::string& token = tokens_[static_cast<std::size_t>(id)];
    if (id < kFirstByte) return specials ? token : "";
    if (id < kFirstText) return {static_cast<char>(id - kFirstByte)};
    return behind_beginning && token.starts_with(' ') ? token.substr(1) : token;
  }

 private:
  std::string name_, digest_;
  Frame frame_;
  BpeModel model_;
  std::vector<std::string> tokens_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_llama2c_tokenizer(const std::string& path) {
  const std::string content = read_text_file(path);
  return std::make_unique<Llama2cTokenizer>(path, content, read_tokens(path, content));
}

}  // namespace lorashard::core
