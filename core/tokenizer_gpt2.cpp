// GPT-2's own two files (Radford et al. 2019, encoder.py): a vocabulary and the pairs of its tokens to join.
#include <filesystem>

#include "core/bpe_tokenizer.hpp"
#include "core/digest.hpp"
#include "core/json_file.hpp"
#include "core/quote.hpp"
#include "core/text_file.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {
namespace {

using kernels::Failure;
using kernels::Index;
using kernels::text;

const std::string kEndOfText = "<|endoftext|>";

template <class... Parts>
[[noreturn]] void refuse(const std::string& path, const Parts&... parts) {
  kernels::fail(Failure::configuration, text(path, ": ", parts...));
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

void read_merges(const std::string& path, const std::string& content, const std::string& vocabulary_path,
                 BpeParts& to) {
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
    if (space == std::string::npos || space != line.rfind(' ') || space == 0 || space + 1 == line.size())
      refuse(here(), "found ", in_quotes(line), ", expected two tokens with a space between them");
    const auto id_of = [&](const std::string& token) {
      const auto found = to.vocabulary.find(token);
      if (found == to.vocabulary.end()) refuse(here(), "token ", in_quotes(token), " is not in ", vocabulary_path);
      return found->second;
    };
    const std::string left = line.substr(0, space), right = line.substr(space + 1);
    const std::int32_t a = id_of(left), b = id_of(right);
    if (!to.pairs.add(a, b, id_of(left + right))) refuse(here(), "found ", in_quotes(line), " for the second time");
    to.joints.emplace_back(a, b);
  }
}

}  // namespace

std::unique_ptr<Tokenizer> make_gpt2_tokenizer(const std::string& directory) {
  for (const auto& [vocabulary, merges] : {std::pair{"encoder.json", "vocab.bpe"}, {"vocab.json", "merges.txt"}}) {
    const std::string path = directory + "/" + vocabulary, merges_path = directory + "/" + merges;
    if (!std::filesystem::exists(path)) continue;
    BpeParts model;
    model.vocabulary = read_vocabulary(path);
    const auto end = model.vocabulary.find(kEndOfText);
    if (end == model.vocabulary.end()) refuse(path, "found no token ", kEndOfText, ", which ends a text");
    const std::int32_t id = end->second;
    const std::string rules = read_text_file(merges_path);
    read_merges(merges_path, rules, path, model);
    const std::string source = read_text_file(path) + rules;
    const boost::json::value byte_level{{"type", "ByteLevel"}, {"add_prefix_space", false}};
    return make_bpe_tokenizer({.name = "gpt2",
                               .digest = digest_of(source.data(), source.size()).hex(),
                               .path = path,
                               .model = std::move(model),
                               .added = {{.content = kEndOfText, .id = id, .special = true}},
                               .normalizer = {nullptr, path},
                               .pre_tokenizer = {&byte_level, path},
                               .decoder = {&byte_level, path},
                               .frame = {},
                               .beginning = {},
                               .end = id});
  }
  refuse(directory, "found no tokenizer.json, encoder.json or vocab.json, expected the files of a byte-pair encoding");
}

}  // namespace lorashard::core
