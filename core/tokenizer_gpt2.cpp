// GPT-2's tokenizer (Radford et al. 2019): words by a pattern, bytes of a word as visible characters, pairs joined.
// Ids equal those of the published encoder and of Hugging Face's tokenizers 0.23 on all of Unicode 16.0.
#include <array>
#include <filesystem>
#include <mutex>
#include <unordered_map>

#include "core/byte_pairs.hpp"
#include "core/json_file.hpp"
#include "core/quote.hpp"
#include "core/text_file.hpp"
#include "core/tokenizer.hpp"
#include "core/tokenizer_gpt2_words.hpp"
#include "core/utf8.hpp"

namespace lorashard::core {
namespace {

using kernels::Failure;
using kernels::Index;
using kernels::text;
using Vocabulary = std::unordered_map<std::string, std::int32_t>;

const std::string kEndOfText = "<|endoftext|>";
// Words seen are kept with their ids: text repeats itself. The bounds hold the cache below some 30 MB.
constexpr std::size_t kMostWords = 1 << 17, kLongestWord_bytes = 64;

template <class... Parts>
[[noreturn]] void refuse(const std::string& path, const Parts&... parts) {
  kernels::fail(Failure::configuration, text(path, ": ", parts...));
}

// The character that stands for a byte in the vocabulary: itself where it is visible in Latin-1, else 256, 257, ...
std::array<char32_t, 256> visible_characters() {
  std::array<char32_t, 256> characters{};
  char32_t next = 256;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool visible = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    characters[byte] = visible ? byte : next++;
  }
  return characters;
}

// All of those characters are below U+0800.
std::string in_utf8(char32_t c) {
  if (c < 0x80) return {static_cast<char>(c)};
  return {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
}

Vocabulary read_vocabulary(const std::string& path) {
  const boost::json::object entries = read_json_object(path);
  Vocabulary vocabulary;
  std::vector<bool> taken(entries.size());
  for (const auto& [token, id] : entries) {
    // Dense ids bound the memory that a hostile file can ask for.
    const std::int64_t* whole = id.if_int64();
    if (!whole || *whole < 0 || *whole >= static_cast<std::int64_t>(entries.size()))
      refuse(path, "token ", in_quotes(token), ": found ", shown(&id), ", expected an id from 0 to ",
             entries.size() - 1);
    const auto at = static_cast<std::size_t>(*whole);
    if (taken[at]) refuse(path, "token ", in_quotes(token), ": id ", at, " belongs to another token too");
    taken[at] = true;
    vocabulary.emplace(token, static_cast<std::int32_t>(at));
  }
  return vocabulary;
}

BytePairs read_merges(const std::string& path, const std::string& vocabulary_path, const Vocabulary& vocabulary) {
  const std::string content = read_text_file(path);
  BytePairs pairs;
  Index number = 0;
  const auto here = [&] { return text(path, ":", number); };
  for (std::size_t at = 0; at < content.size();) {
    const std::size_t end = std::min(content.find('\n', at), content.size());
    std::string line = content.substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || (number == 1 && line.starts_with("#version"))) continue;
    const std::size_t space = line.find(' ');
    if (space == std::string::npos || space != line.rfind(' '))
      refuse(here(), "found ", in_quotes(line), ", expected two tokens with a space between them");
    const auto id_of = [&](const std::string& token) {
      const auto found = vocabulary.find(token);
      if (found == vocabulary.end()) refuse(here(), "token ", in_quotes(token), " is not in ", vocabulary_path);
      return found->second;
    };
    const std::string left = line.substr(0, space), right = line.substr(space + 1);
    if (!pairs.add(id_of(left), id_of(right), id_of(left + right)))
      refuse(here(), "found ", in_quotes(line), " for the second time");
  }
  return pairs;
}

class Gpt2Tokenizer : public Tokenizer {
 public:
  Gpt2Tokenizer(const std::string& vocabulary_path, const std::string& merges_path) {
    const Vocabulary vocabulary = read_vocabulary(vocabulary_path);
    learn_bytes(vocabulary, vocabulary_path);
    const auto end = vocabulary.find(kEndOfText);
    if (end == vocabulary.end()) refuse(vocabulary_path, "found no token ", kEndOfText, ", which ends a text");
    end_of_text_ = end->second;
    bytes_of_[static_cast<std::size_t>(end_of_text_)].clear();
    pairs_ = read_merges(merges_path, vocabulary_path, vocabulary);
  }

  std::vector<std::int32_t> encode(std::string_view utf8) const override {
    const std::size_t wrong = invalid_utf8_at(utf8);
    if (wrong != std::string_view::npos)
      kernels::fail(Failure::configuration, text("text is not UTF-8 at byte ", wrong, ": found ",
                                                 static_cast<int>(static_cast<unsigned char>(utf8[wrong]))));
    const std::lock_guard lock(mutex_);
    std::vector<std::int32_t> ids;
    for (std::size_t at = 0; at < utf8.size();) {
      const std::size_t end = gpt2_word_end(utf8, at);
      append_word(utf8.substr(at, end - at), ids);
      at = end;
    }
    return ids;
  }

  std::string decode(const std::vector<std::int32_t>& ids) const override {
    std::string bytes;
    for (const std::int32_t id : ids) {
      check_token_id(*this, id);
      bytes += bytes_of_[static_cast<std::size_t>(id)];
    }
    return bytes;
  }

  Index vocab() const override { return static_cast<Index>(bytes_of_.size()); }
  std::int32_t end_of_text() const override { return end_of_text_; }
  const std::string& name() const override { return name_; }

 private:
  void learn_bytes(const Vocabulary& vocabulary, const std::string& path) {
    const auto characters = visible_characters();
    std::unordered_map<char32_t, char> byte_of;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const auto found = vocabulary.find(in_utf8(characters[byte]));
      if (found == vocabulary.end()) refuse(path, "byte ", byte, " has no token, expected one for every byte");
      id_of_byte_[byte] = found->second;
      byte_of.emplace(characters[byte], static_cast<char>(byte));
    }
    bytes_of_.resize(vocabulary.size());
    for (const auto& [token, id] : vocabulary) {
      std::string& bytes = bytes_of_[static_cast<std::size_t>(id)];
      for (std::size_t at = 0; at < token.size();) {
        const std::size_t start = at;
        const auto found = byte_of.find(next_code_point(token, at));
        if (found != byte_of.end())
          bytes += found->second;
        else
          bytes += token.substr(start, at - start);  // an added token's own text
      }
    }
  }

  void append_word(std::string_view word, std::vector<std::int32_t>& ids) const {
    const std::string key(word);
    const auto known = known_.find(key);
    if (known != known_.end()) {
      ids.insert(ids.end(), known->second.begin(), known->second.end());
      return;
    }
    std::vector<std::int32_t> symbols;
    for (const unsigned char byte : word) symbols.push_back(id_of_byte_[byte]);
    symbols = pairs_.joined(symbols);
    ids.insert(ids.end(), symbols.begin(), symbols.end());
    if (word.size() > kLongestWord_bytes) return;
    if (known_.size() == kMostWords) known_.clear();
    known_.emplace(key, std::move(symbols));
  }

  std::string name_ = "gpt2";
  std::array<std::int32_t, 256> id_of_byte_{};
  std::vector<std::string> bytes_of_;
  std::int32_t end_of_text_ = 0;
  BytePairs pairs_;
  mutable std::mutex mutex_;  // of known_: encode may be called by many threads
  mutable std::unordered_map<std::string, std::vector<std::int32_t>> known_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_gpt2_tokenizer(const std::string& directory) {
  for (const auto& [vocabulary, merges] : {std::pair{"encoder.json", "vocab.bpe"}, {"vocab.json", "merges.txt"}})
    if (std::filesystem::exists(directory + "/" + vocabulary))
      return std::make_unique<Gpt2Tokenizer>(directory + "/" + vocabulary, directory + "/" + merges);
  refuse(directory, "found neither encoder.json nor vocab.json, expected the files of GPT-2's vocabulary");
}

}  // namespace lorashard::core
