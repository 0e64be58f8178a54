#include "core/dataset.hpp"

#include <algorithm>

#include "core/permutation.hpp"
#include "core/tensor_table.hpp"
#include "core/token_file.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;

void check_documents_fit(const std::string& path, const std::vector<std::int64_t>& offsets, Index length) {
  Index longest = 0, where = 0;
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i)
    if (offsets[i + 1] - offsets[i] > longest) {
      longest = offsets[i + 1] - offsets[i];
      where = static_cast<Index>(i);
    }
  if (longest - 1 > length)
    fail(Failure::configuration, text(path, ": document ", where, " has ", longest, " tokens: found data.length ",
                                      length, ", expected at least ", longest - 1));
}

}  // namespace

Index Rows::scored() const {
  return static_cast<Index>(labels.size()) - std::count(labels.begin(), labels.end(), kUnscored);
}

Dataset::Dataset(const std::string& path, Index length, Order order, std::uint64_t seed)
    : path_(path), length_(length), order_(order), seed_(seed) {
  if (length < 1) fail(Failure::configuration, text("data.length: found ", length, ", expected at least 1"));
  TokenFile file = read_token_file(path);
  digest_ = file.digest();
  packed_ = file.packed;
  tokenizer_ = std::move(file.tokenizer);
  vocab_ = file.vocab;
  tokens_ = std::move(file.tokens);
  labels_ = std::move(file.labels);
  offsets_ = std::move(file.offsets);
  if (packed_) {
    // The last token is only predicted, so it needs no position.
    rows_ = (tokens() - 1 + length - 1) / length;
    if (rows_ == 0) fail(Failure::configuration, text(path, ": tokens: found a single one, expected at least 2"));
  } else {
    rows_ = static_cast<Index>(offsets_.size()) - 1;
    check_documents_fit(path, offsets_, length);
  }
}

Rows Dataset::batch(Index step, Index batch, Index first, Index count) const {
  if (step < 0 || first < 0 || count < 0 || first + count > batch)
    fail(Failure::other, text("rows ", first, " to ", first + count, " of a batch of ", batch, " at step ", step));
  static const std::uint64_t stream = stream_of("data order");
  Rows rows;
  for (Index i = first; i < first + count; ++i) {
    const Index n = step * batch + i, entry = n % rows_;
    const kernels::RandomKey pass{seed_, stream + static_cast<std::uint64_t>(n / rows_)};
    append(order_ == Order::shuffled ? permuted(entry, rows_, pass) : entry, rows);
  }
  return rows;
}

Rows Dataset::in_order(Index first, Index count) const {
  if (first < 0 || count < 0 || first + count > rows_)
    fail(Failure::other, text("rows ", first, " to ", first + count, " of ", rows_));
  Rows rows;
  for (Index row = first; row < first + count; ++row) append(row, rows);
  return rows;
}

void Dataset::append(Index row, Rows& rows) const {
  const Index begin = packed_ ? row * length_ : offsets_[static_cast<std::size_t>(row)];
  const Index end = packed_ ? tokens() : offsets_[static_cast<std::size_t>(row) + 1];
  const std::vector<std::int32_t>& labels = labels_.empty() ? tokens_ : labels_;
  for (Index at = begin; at < begin + length_; ++at) {
    rows.ids.push_back(at < end ? tokens_[static_cast<std::size_t>(at)] : 0);
    rows.labels.push_back(at + 1 < end ? labels[static_cast<std::size_t>(at) + 1] : kUnscored);
  }
}

}  // namespace lorashard::core
