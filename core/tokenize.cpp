#include "core/tokenize.hpp"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <memory>

#include "core/json_file.hpp"
#include "core/option_values.hpp"
#include "core/prompt_pairs.hpp"
#include "core/quote.hpp"
#include "core/text_file.hpp"
#include "core/token_file.hpp"
#include "core/tokenize_rows.hpp"
#include "core/tokenizer.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::Index;
using kernels::text;
using Ids = std::vector<std::int32_t>;

template <class... Parts>
[[noreturn]] void refuse(const std::string& where, const Parts&... parts) {
  fail(Failure::configuration, text(where, ": ", parts...));
}

TextFormat format_of(const std::string& path) {
  if (path.ends_with(".jsonl") || path.ends_with(".json")) return TextFormat::json;
  std::string line;
  LineReader(path).next(line);
  if (line.starts_with('{') && (line.find("\"input_ids\"") != line.npos || line.find("\"messages\"") != line.npos ||
                                (line.find("\"prompt\"") != line.npos && line.find("\"completion\"") != line.npos)))
    return TextFormat::json;
  return line.find("||") != std::string::npos ? TextFormat::pairs : TextFormat::text;
}

void read_text(const std::string& path, const Tokenizer& tokenizer, TokenFile& to) {
  const std::string content = read_text_file(path);
  if (content.empty()) return;
  ScoredIds document;
  document.add(tokenizer.frame().front, true);
  document.add(encoded(tokenizer, content, path), true);
  document.add(tokenizer.end_of_text(), true);
  append(document, to);
}

// The document reads "<prompt> <completion><end of text>". GPT-2's vocabulary has the space in front of a word in the
// word's own token, so the space belongs to the completion: the ids are those of the sentence in plain text, and a
// prompt given at generation ends where training ended it.
void read_pairs(const std::string& path, const Tokenizer& tokenizer, TokenFile& to) {
  LineReader lines(path);
  for (std::string line; lines.next(line);) {
    const auto [prompt, completion] = split_pair(line, lines.where());
    append(scored_pair(tokenizer, prompt, text(' ', completion), lines.where()), to);
  }
}

// The whole numbers of an array, each from 0 to `most`, or -100 where that is allowed.
Ids read_ids(const JsonFields& fields, const char* key, Index most, bool unscored) {
  const boost::json::value* value = fields.find(key);
  if (!value || !value->is_array()) fields.refuse(key, "an array of token ids");
  Ids ids;
  for (const boost::json::value& entry : value->get_array()) {
    const std::int64_t* id = entry.if_int64();
    if (!id || ((*id < 0 || *id > most) && !(unscored && *id == kUnscored)))
      refuse(fields.path, key, "[", ids.size(), "]: found ", shown(&entry), ", expected a whole number from 0 to ",
             most, unscored ? text(" or ", kUnscored) : "");
    ids.push_back(static_cast<std::int32_t>(*id));
  }
  return ids;
}

// A vocabulary of 0 becomes the largest id + 1.
void read_json(const std::string& path, TokenFile& to) {
  const Index most = (to.vocab == 0 ? std::numeric_limits<std::int32_t>::max() : to.vocab) - 1;
  LineReader lines(path);
  for (std::string line; lines.next(line);) {
    const std::string where = lines.where();
    if (trimmed(line).empty()) refuse(where, "found an empty line, expected an object with input_ids");
    const boost::json::object object = parse_json_object(line, where);
    const JsonFields fields{object, where};
    const Ids ids = read_ids(fields, "input_ids", most, false);
    if (ids.empty()) refuse(where, "input_ids: found an empty array, expected at least one token id");
    const Ids labels = fields.find("labels") ? read_ids(fields, "labels", most, true) : ids;
    if (labels.size() != ids.size())
      refuse(where, "labels: found ", labels.size(), " entries, expected ", ids.size(), ", one for each of input_ids");
    append({ids, labels}, to);
  }
  if (to.vocab != 0 || to.tokens.empty()) return;
  to.vocab = 1 + std::max(*std::max_element(to.tokens.begin(), to.tokens.end()),
                          *std::max_element(to.labels.begin(), to.labels.end()));
}

TokenFile read_documents(const TokenizeJob& job, TextFormat format) {
  TokenFile content;
  content.packed = format == TextFormat::text;
  const RowKind kind = format == TextFormat::json ? row_kind(job.from) : RowKind::ids;
  const bool has_ids = format == TextFormat::json && kind == RowKind::ids;
  const bool ids_only = has_ids && job.vocab.empty();
  if (!has_ids && job.vocab_size != 0)
    refuse("vocab size", "found ", job.vocab_size, " for text, expected one only with JSON lines of input_ids");
  if (kind != RowKind::messages && !job.chat.empty())
    refuse("--chat", "found ", in_quotes(job.chat), ", expected one only with JSON lines of messages");
  const auto tokenizer = job.vocab.empty() ? make_byte_tokenizer() : make_tokenizer(job.vocab);
  content.tokenizer = ids_only ? "none" : tokenizer->name();
  if (!ids_only) content.tokenizer_digest = tokenizer->digest();
  content.vocab = job.vocab_size != 0 || ids_only ? job.vocab_size : tokenizer->vocab();
  if (has_ids) read_json(job.from, content);
  if (kind == RowKind::prompts) read_prompts(job.from, *tokenizer, content);
  if (kind == RowKind::messages) read_messages(job, *tokenizer, content);
  if (format == TextFormat::pairs) read_pairs(job.from, *tokenizer, content);
  if (format == TextFormat::text) read_text(job.from, *tokenizer, content);
  return content;
}

void check_job(const TokenizeJob& job) {
  constexpr Index kMost = std::numeric_limits<std::int32_t>::max();
  if (job.vocab_size < 0 || job.vocab_size > kMost)
    refuse("vocab size", "found ", job.vocab_size, ", expected 1 to ", kMost);
  std::error_code none;
  if (std::filesystem::equivalent(job.from, job.to, none)) refuse(job.to, "is the input, expected another file");
}

}  // namespace

TokenizeReport tokenize_file(const TokenizeJob& job) {
  const TextFormat format = job.format == TextFormat::automatic ? format_of(job.from) : job.format;
  check_job(job);
  TokenFile content = read_documents(job, format);
  if (content.documents() == 0) refuse(job.from, "found an empty file");
  TokenizeReport report;
  report.documents = content.documents();
  report.tokens = static_cast<Index>(content.tokens.size());
  report.scored = content.scored();
  report.vocab = content.vocab;
  report.kind = content.packed ? "text" : "rows";
  report.tokenizer = content.tokenizer;
  for (std::size_t i = 0; i + 1 < content.offsets.size(); ++i)
    report.longest = std::max(report.longest, content.offsets[i + 1] - content.offsets[i]);
  if (report.scored == 0)
    refuse(job.from, "labels: found no token to learn from, expected a scored one after the first of a document");
  write_token_file(job.to, std::move(content));
  return report;
}

}  // namespace lorashard::core
