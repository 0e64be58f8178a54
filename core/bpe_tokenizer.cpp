#include "core/bpe_tokenizer.hpp"

#include <algorithm>

#include "core/byte_level.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::Index;
using kernels::text;
using Ids = std::vector<std::int32_t>;

std::vector<AddedToken> those(const std::vector<AddedToken>& tokens, bool normalized,
                              const TextNormalizer& normalizer) {
  std::vector<AddedToken> chosen;
  for (AddedToken token : tokens) {
    if (token.normalized != normalized) continue;
    if (normalized) token.content = normalizer(token.content, false);
    if (!token.content.empty()) chosen.push_back(std::move(token));
  }
  return chosen;
}

class BpeTokenizer : public Tokenizer {
 public:
  explicit BpeTokenizer(BpeTokenizerParts parts)
      : name_(std::move(parts.name)),
        digest_(std::move(parts.digest)),
        path_(std::move(parts.path)),
        raw_(those(parts.added, false, parts.normalizer)),
        normalized_(those(parts.added, true, parts.normalizer)),
        normalizer_(std::move(parts.normalizer)),
        pre_tokenizer_(std::move(parts.pre_tokenizer)),
        decoder_(std::move(parts.decoder)),
        frame_(std::move(parts.frame)),
        beginning_(parts.beginning),
        end_(parts.end),
        model_ends_(std::move(parts.model_ends)),
        model_(std::move(parts.model)) {
    for (const auto& [token, id] : model_.vocabulary()) learn(token, id);
    for (const AddedToken& token : parts.added) {
      learn(token.content, token.id);
      names_.emplace(token.content, token.id);
      special_[static_cast<std::size_t>(token.id)] = token.special;
    }
    for (const std::string& token : tokens_) bytes_.push_back(decoder_(token, false));
  }

  Index vocab() const override { return static_cast<Index>(tokens_.size()); }
  std::optional<std::int32_t> find(std::string_view token) const override {
    const std::string key(token);
    for (const Vocabulary* names : {&names_, &model_.vocabulary()})
      if (const auto found = names->find(key); found != names->end()) return found->second;
    return std::nullopt;
  }
  std::int32_t end_of_text() const override {
    if (!end_)
      fail(Failure::configuration, text(path_, ": found no token that ends a text, expected eos_token in a ",
                                        "tokenizer_config.json or special_tokens_map.json beside it"));
    return *end_;
  }
  std::vector<std::int32_t> ends_of_text() const override {
    std::vector<std::int32_t> ends = model_ends_;
    ends.push_back(end_of_text());
    std::sort(ends.begin(), ends.end());
    ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
    return ends;
  }
  std::optional<std::int32_t> beginning_of_text() const override { return beginning_; }
  const Frame& frame() const override { return frame_; }
  const std::string& name() const override { return name_; }
  std::string digest() const override { return digest_; }

 protected:
  void append_ids(std::string_view utf8, const Encoding& how, Ids& ids) const override {
    expect_utf8(utf8);
    for (const AddedTokens::Part& part : raw_.parts(utf8, how.specials)) {
      if (part.token) {
        ids.push_back(part.token->id);
        continue;
      }
      const bool first = part.begin == 0;
      const std::string normal =
          normalizer_(std::string(utf8.substr(part.begin, part.end - part.begin)), first && how.continues);
      append_normal(normal, first, first && how.continues, how.specials, ids);
    }
  }

  std::string bytes_of(std::int32_t id, bool specials, Decoded& so_far) const override {
    const auto at = static_cast<std::size_t>(id);
    if (!known_[at] || (special_[at] && !specials)) return "";
    std::string bytes = so_far.tokens++ == 0 ? decoder_(tokens_[at], true) : bytes_[at];
    const auto& [front, most] = decoder_.front();
    std::size_t begin = 0;
    for (; !so_far.text && so_far.stripped < most && bytes.compare(begin, front.size(), front) == 0; ++so_far.stripped)
      begin += front.size();
    bytes.erase(0, begin);
    so_far.text = so_far.text || !bytes.empty();
    return bytes;
  }

 private:
  void learn(const std::string& token, std::int32_t id) {
    const auto at = static_cast<std::size_t>(id);
    if (at >= tokens_.size()) {
      tokens_.resize(at + 1);
      known_.resize(at + 1);
      special_.resize(at + 1);
    }
    tokens_[at] = token;
    known_[at] = true;
  }

  void append_normal(const std::string& normal, bool first, bool continues, bool specials, Ids& ids) const {
    for (const AddedTokens::Part& part : normalized_.parts(normal, specials)) {
      if (part.token) {
        ids.push_back(part.token->id);
        continue;
      }
      const bool front = part.begin == 0;
      for (const PreTokenizer::Piece& piece :
           pre_tokenizer_({normal.substr(part.begin, part.end - part.begin), first && front, continues && front}))
        model_.append(piece.text, ids);
    }
  }

  std::string name_, digest_, path_;
  AddedTokens raw_, normalized_;
  TextNormalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  TokenDecoder decoder_;
  Frame frame_;
  std::optional<std::int32_t> beginning_, end_;
  std::vector<std::int32_t> model_ends_;
  BpeModel model_;
  Vocabulary names_;                 // of added tokens
  std::vector<std::string> tokens_;  // by id, as the vocabulary writes them
  std::vector<std::string> bytes_;   // of tokens that are not the first
  std::vector<bool> known_, special_;
};

// Bytes that valid UTF-8 has.
bool in_utf8(int byte) { return byte < 0xF5 && byte != 0xC0 && byte != 0xC1; }

}  // namespace

std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeTokenizerParts parts) {
  if (parts.pre_tokenizer.byte_level() && !parts.model.unknown)
    for (int byte = 0; byte < 256; ++byte)
      if (in_utf8(byte) && !parts.model.vocabulary.contains(visible_character(static_cast<unsigned char>(byte))))
        fail(Failure::configuration,
             text(parts.path, ": byte ", byte, " has no token, expected one for every byte of UTF-8"));
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

}  // namespace lorashard::core
