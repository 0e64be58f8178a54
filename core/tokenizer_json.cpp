// Reads Hugging Face's tokenizer.json. The reference is tokenizers 0.23; "truncation" and "padding" are about batches,
// not about tokens, and are not looked at. Whatever else is not listed here is refused by name.
#include <cstdio>
#include <filesystem>

#include "core/bpe_tokenizer.hpp"
#include "core/described.hpp"
#include "core/digest.hpp"
#include "core/quote.hpp"
#include "core/text_file.hpp"
#include "core/tokenizer_ends.hpp"

namespace lorashard::core {
namespace {

using boost::json::object;
using boost::json::value;
using kernels::Failure;
using kernels::text;

template <class... Parts>
[[noreturn]] void refuse(const std::string& where, const Parts&... parts) {
  kernels::fail(Failure::configuration, text(where, ": ", parts...));
}

std::int32_t token_id(const value& id, const std::string& where, const std::string& token) {
  const std::int64_t* whole = id.if_int64();
  if (!whole || *whole < 0 || *whole >= kMostTokenIds)
    refuse(where, "token ", in_quotes(token), ": found ", shown(&id), ", expected an id from 0 to ", kMostTokenIds - 1);
  return static_cast<std::int32_t>(*whole);
}

Vocabulary read_vocabulary(const JsonFields& model) {
  const value* entries = model.find("vocab");
  if (!entries || !entries->is_object() || entries->get_object().empty())
    model.refuse("vocab", "an object of tokens and ids");
  const std::string where = model.path + ".vocab";
  Vocabulary vocabulary;
  std::vector<bool> taken;
  for (const auto& [token, id] : entries->get_object()) {
    const std::int32_t number = token_id(id, where, token);
    const auto at = static_cast<std::size_t>(number);
    if (at >= taken.size()) taken.resize(at + 1);
    if (taken[at]) refuse(where, "token ", in_quotes(token), ": id ", number, " belongs to another token too");
    taken[at] = true;
    vocabulary.emplace(token, number);
  }
  return vocabulary;
}

// "left right", or ["left", "right"] where tokens may have spaces.
std::pair<std::string, std::string> two_tokens(const value& rule, const std::string& where) {
  constexpr const char* kExpected = ", expected two tokens";
  if (const auto* pair = rule.if_array()) {
    if (pair->size() != 2 || !(*pair)[0].is_string() || !(*pair)[1].is_string())
      refuse(where, "found ", shown(&rule), kExpected);
    return {std::string((*pair)[0].get_string()), std::string((*pair)[1].get_string())};
  }
  const std::string line = rule.is_string() ? std::string(rule.get_string()) : "";
  const std::size_t space = line.find(' ');
  if (space == line.npos || space != line.rfind(' ')) refuse(where, "found ", shown(&rule), kExpected);
  return {line.substr(0, space), line.substr(space + 1)};
}

void read_merges(const JsonFields& model, BpeParts& to) {
  const value* rules = model.find("merges");
  if (!rules || !rules->is_array()) model.refuse("merges", "an array of rules");
  std::size_t number = 0;
  for (const value& rule : rules->get_array()) {
    const std::string where = text(model.path, ".merges[", number++, "]");
    const auto [left, right] = two_tokens(rule, where);
    if (left.empty() || right.empty()) refuse(where, "found ", in_quotes(left + " " + right), ", expected two tokens");
    const auto id_of = [&](const std::string& token) {
      const auto found = to.vocabulary.find(token);
      if (found == to.vocabulary.end()) refuse(where, "token ", in_quotes(token), " is not in the vocabulary");
      return found->second;
    };
    const std::int32_t a = id_of(left), b = id_of(right);
    if (!to.pairs.add(a, b, id_of(left + right)))
      refuse(where, "found ", in_quotes(left + " " + right), " for the second time");
    to.joints.emplace_back(a, b);
  }
}

BpeParts read_model(const JsonFields& file, const std::string& path) {
  const value* found = file.find("model");
  if (!found || !found->is_object()) file.refuse("model", "an object");
  const std::string where = path + ": model";
  const JsonFields model{found->get_object(), where};
  // Files before 2020 have no type; GPT-2's is one.
  if (model.find("type") && model.text("type") != "BPE") model.refuse("type", "BPE");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (model.find(affix) && !model.text(affix).empty()) model.refuse(affix, "nothing");
  if (model.find("dropout") && model.real("dropout") != 0)
    model.refuse("dropout", "nothing: ids are not left to chance");
  BpeParts parts;
  parts.vocabulary = read_vocabulary(model);
  read_merges(model, parts);
  parts.fuse_unknown = model.flag("fuse_unk", false);
  parts.ignore_merges = model.flag("ignore_merges", false);
  if (model.find("unk_token")) {
    const auto unknown = parts.vocabulary.find(model.text("unk_token"));
    if (unknown == parts.vocabulary.end()) model.refuse("unk_token", "a token of the vocabulary");
    parts.unknown = unknown->second;
  }
  if (!model.flag("byte_fallback", false)) return parts;
  auto& bytes = parts.byte_tokens.emplace();
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    const auto token = parts.vocabulary.find(name);
    if (token != parts.vocabulary.end()) bytes[static_cast<std::size_t>(byte)] = token->second;
  }
  return parts;
}

std::vector<AddedToken> read_added(const JsonFields& file, const std::string& path, const Vocabulary& vocabulary) {
  std::vector<AddedToken> added;
  const value* entries = file.find("added_tokens");
  if (!entries) return added;
  if (!entries->is_array()) file.refuse("added_tokens", "an array");
  std::unordered_map<std::int32_t, std::string> names;
  for (const auto& [token, id] : vocabulary) names.emplace(id, token);
  Vocabulary seen;
  for (const value& entry : entries->get_array()) {
    const std::string where = text(path, ": added_tokens[", added.size(), "]");
    if (!entry.is_object()) refuse(where, "found ", shown(&entry), ", expected an object");
    const JsonFields fields{entry.get_object(), where};
    AddedToken token;
    token.content = fields.text("content");
    if (token.content.empty()) fields.refuse("content", "text");
    token.id = static_cast<std::int32_t>(fields.integer("id", 0, kMostTokenIds - 1));
    token.special = fields.flag("special", false);
    token.lstrip = fields.flag("lstrip", false);
    token.rstrip = fields.flag("rstrip", false);
    token.single_word = fields.flag("single_word", false);
    token.normalized = fields.flag("normalized", !token.special);
    const auto own = vocabulary.find(token.content);
    if (own != vocabulary.end() && own->second != token.id)
      fields.refuse("id", text(own->second, ", which ", in_quotes(token.content), " has in the vocabulary"));
    const auto [other, is_new] = names.emplace(token.id, token.content);
    if (!is_new && other->second != token.content)
      fields.refuse("id", text("another one: it belongs to ", in_quotes(other->second)));
    if (!seen.emplace(token.content, token.id).second)
      refuse(where, "found ", in_quotes(token.content), " for the second time");
    added.push_back(std::move(token));
  }
  return added;
}

}  // namespace

std::unique_ptr<Tokenizer> make_json_tokenizer(const std::string& path) {
  const object content = read_json_object(path);
  const JsonFields file{content, path};
  BpeParts model = read_model(file, path);
  std::vector<AddedToken> added = read_added(file, path, model.vocabulary);
  const std::string source = read_text_file(path);
  const std::filesystem::path place(path);
  BpeTokenizerParts parts{.name = place.filename() == "tokenizer.json"
                                      ? std::filesystem::absolute(place).parent_path().filename().string()
                                      : place.stem().string(),
                          .digest = digest_of(source.data(), source.size()).hex(),
                          .path = path,
                          .model = {},
                          .added = {},
                          .normalizer = TextNormalizer(file.find("normalizer"), path + ": normalizer"),
                          .pre_tokenizer = PreTokenizer(file.find("pre_tokenizer"), path + ": pre_tokenizer"),
                          .decoder = TokenDecoder(file.find("decoder"), path + ": decoder"),
                          .frame = {},
                          .beginning = {},
                          .end = {}};
  const auto find = [&](const std::string& token) -> std::optional<std::int32_t> {
    for (const AddedToken& one : added)
      if (one.content == token) return one.id;
    const auto found = model.vocabulary.find(token);
    return found == model.vocabulary.end() ? std::nullopt : std::optional(found->second);
  };
  parts.frame = read_frame(file.find("post_processor"), path + ": post_processor", find);
  const TextEnds ends = read_text_ends(place.parent_path().string(), find);
  parts.beginning = ends.beginning;
  if (!parts.beginning && !parts.frame.front.empty()) parts.beginning = parts.frame.front.front();
  parts.end = ends.end;
  parts.model_ends = ends.model_ends;
  parts.model = std::move(model);
  parts.added = std::move(added);
  return make_bpe_tokenizer(std::move(parts));
}

}  // namespace lorashard::core
