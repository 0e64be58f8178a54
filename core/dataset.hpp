// Token files and the batch of (seed, step): a pure function of the file and the job, never of the mesh.
//
//   /          attributes: format "lorashard tokens 1", kind "text" or "rows", tokenizer, vocab, digest, and
//              tokenizer_digest where the tokenizer was read from files
//   /tokens    int32, all documents one after the other
//   /offsets   int64, documents + 1 entries: where each begins; the last is the length of /tokens
//   /labels    int32 beside /tokens, -100 where unscored; absent when every token is scored
//
// "text": long documents, packed: row i is tokens [i T, i T + T], the last row is padded. "rows": one document is one
// row, padded and unscored to T positions. Position p of a row predicts label p + 1 of its document.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "core/digest.hpp"
#include "core/hdf5.hpp"

namespace lorashard::core {

// ids and labels of some rows, each (rows, T) row-major; labels are already shifted: labels[p] is what ids[p] predicts,
// -100 where nothing is scored.
struct Rows {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;
  Index scored() const;  // labels that are not -100
};

class Dataset {
 public:
  // Opens and checks the file (format, offsets, token range, digest); all of it is read into memory. `length` is T.
  // Throws Failure::storage for a damaged file, else Failure::configuration, naming file and field; a document of more
  // than T + 1 tokens in a "rows" file is refused with the length that would do.
  Dataset(const std::string& path, Index length, Order order, std::uint64_t seed);

  const std::string& path() const { return path_; }
  Index rows() const { return rows_; }      // in one pass over the data
  Index length() const { return length_; }  // T
  Index vocab() const { return vocab_; }
  Index tokens() const { return static_cast<Index>(tokens_.size()); }
  const std::string& tokenizer() const { return tokenizer_; }
  const Digest& digest() const { return digest_; }

  // Rows [first, first + count) of the batch of `batch` rows at `step`. Row n of training is entry n mod rows() of pass
  // n / rows(); with Order::shuffled every pass has a permutation of its own, made from (seed, pass).
  Rows batch(Index step, Index batch, Index first, Index count) const;
  // Rows [first, first + count) in file order, for evaluation.
  Rows in_order(Index first, Index count) const;

 private:
  void append(Index row, Rows& rows) const;
  std::string path_, tokenizer_;
  Index length_ = 0, rows_ = 0, vocab_ = 0;
  Order order_ = Order::shuffled;
  std::uint64_t seed_ = 0;
  bool packed_ = true;
  Digest digest_;
  std::vector<std::int32_t> tokens_, labels_;
  std::vector<std::int64_t> offsets_;
};

}  // namespace lorashard::core
