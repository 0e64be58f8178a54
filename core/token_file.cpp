#include "core/token_file.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>

#include "core/hdf5.hpp"
#include "core/quote.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;

constexpr const char* kFormat = "lorashard tokens 1";

template <class T>
std::string digest_text(const std::vector<T>& values) {
  return digest_of(values.data(), values.size() * sizeof(T)).hex();
}

template <class... Parts>
[[noreturn]] void refuse(const std::string& path, const Parts&... parts) {
  fail(Failure::configuration, text(path, ": ", parts...));
}

// Removes a file unless it was kept.
class Scratch {
 public:
  explicit Scratch(std::string path) : path_(std::move(path)) {}
  ~Scratch() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  void rename(const std::string& to) {
    if (::rename(path_.c_str(), to.c_str()) != 0)
      fail(Failure::storage, text(to, ": cannot rename ", path_, " to it: ", std::strerror(errno)));
    path_.clear();
  }

 private:
  std::string path_;
};

void check_offsets(const std::string& path, const std::vector<std::int64_t>& offsets, Index tokens) {
  if (offsets.front() != 0) refuse(path, "offsets[0]: found ", offsets.front(), ", expected 0");
  for (std::size_t i = 1; i < offsets.size(); ++i)
    if (offsets[i] <= offsets[i - 1])
      refuse(path, "offsets[", i, "]: found ", offsets[i], ", expected more than ", offsets[i - 1], ", the one before");
  if (offsets.back() != tokens)
    refuse(path, "offsets[", offsets.size() - 1, "]: found ", offsets.back(), ", expected ", tokens,
           ", the number of tokens");
}

void check_range(const std::string& path, const char* field, const std::vector<std::int32_t>& values, Index vocab,
                 bool unscored) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if ((values[i] >= 0 && values[i] < vocab) || (unscored && values[i] == kUnscored)) continue;
    refuse(path, field, "[", i, "]: found ", values[i], ", expected a token from 0 to ", vocab - 1,
           unscored ? text(" or ", kUnscored) : "");
  }
}

// Extents before allocation: no array of the file may be larger than the tokens say.
void read_arrays(const H5File& file, TokenFile& content) {
  const Index tokens = file.array_length("tokens"), offsets = file.array_length("offsets");
  const std::string& path = file.path();
  if (tokens < 1) refuse(path, "tokens: found none");
  if (offsets < 2 || offsets > tokens + 1)
    refuse(path, "offsets: found ", offsets, " entries, expected 2 to ", tokens + 1, " for ", tokens, " tokens");
  content.tokens = file.read_int32("tokens", 0, tokens);
  content.offsets = file.read_int64("offsets", 0, offsets);
  if (!file.exists("labels")) return;
  const Index labels = file.array_length("labels");
  if (labels != tokens) refuse(path, "labels: found ", labels, " entries, expected ", tokens, ", one for each token");
  content.labels = file.read_int32("labels", 0, labels);
}

Digest read_digest(const H5File& file) {
  try {
    return Digest::from_hex(file.text("/", "digest"));
  } catch (const kernels::Error& error) {
    fail(error.failure(), text(file.path(), ": digest: ", error.what()));
  }
}

}  // namespace

Index TokenFile::scored() const {
  Index count = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) count += label(i) != kUnscored;
  for (std::size_t d = 0; d + 1 < offsets.size() && !(packed && d > 0); ++d)
    count -= label(static_cast<std::size_t>(offsets[d])) != kUnscored;
  return count;
}

Digest TokenFile::digest() const {
  const std::string contents =
      text(kFormat, "\n", packed ? "text" : "rows", "\n", tokenizer, "\n", vocab, "\ntokens ", digest_text(tokens),
           "\nlabels ", digest_text(labels), "\noffsets ", digest_text(offsets),
           tokenizer_digest.empty() ? "" : "\ntokenizer ", tokenizer_digest);
  return digest_of(contents.data(), contents.size());
}

void write_token_file(const std::string& path, TokenFile content) {
  if (content.labels == content.tokens) content.labels.clear();
  Scratch scratch(path + ".partial");
  H5File file = H5File::create(path + ".partial");
  file.set_text("/", "format", kFormat);
  file.set_text("/", "kind", content.packed ? "text" : "rows");
  file.set_text("/", "tokenizer", content.tokenizer);
  if (!content.tokenizer_digest.empty()) file.set_text("/", "tokenizer_digest", content.tokenizer_digest);
  file.set_integer("/", "vocab", content.vocab);
  file.write_array("tokens", content.tokens);
  file.write_array("offsets", content.offsets);
  if (!content.labels.empty()) file.write_array("labels", content.labels);
  file.flush();
  file.set_text("/", "digest", content.digest().hex());
  file.close();
  scratch.rename(path);
}

TokenFile read_token_file(const std::string& path) {
  const H5File file = H5File::open(path);
  const std::string format = file.text("/", "format");
  if (format != kFormat) refuse(path, "format: found ", in_quotes(format), ", expected '", kFormat, "'");
  const std::string kind = file.text("/", "kind");
  if (kind != "text" && kind != "rows") refuse(path, "kind: found ", in_quotes(kind), ", expected text or rows");
  TokenFile content;
  content.packed = kind == "text";
  content.tokenizer = file.text("/", "tokenizer");
  if (file.has_attribute("/", "tokenizer_digest")) content.tokenizer_digest = file.text("/", "tokenizer_digest");
  content.vocab = file.integer("/", "vocab");
  constexpr Index kMost = std::numeric_limits<std::int32_t>::max();
  if (content.vocab < 1 || content.vocab > kMost)
    refuse(path, "vocab: found ", content.vocab, ", expected 1 to ", kMost);
  read_arrays(file, content);
  const Digest stored = read_digest(file), found = content.digest();
  if (found != stored)
    fail(Failure::storage, text(path, ": digest: found ", found.hex(), ", expected ", stored.hex(),
                                ": the file is damaged, tokenize again"));
  check_offsets(path, content.offsets, static_cast<Index>(content.tokens.size()));
  check_range(path, "tokens", content.tokens, content.vocab, false);
  check_range(path, "labels", content.labels, content.vocab, true);
  return content;
}

}  // namespace lorashard::core
