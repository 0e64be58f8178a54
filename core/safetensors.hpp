// Reader of the safetensors format: eight bytes of header length, a JSON header, raw little-endian data. The file is
// untrusted: lengths, offsets, overlaps, extents and types are checked before anything is allocated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/view.hpp"

namespace lorashard::core {

using kernels::Index;

// What files that this program exports say in "__metadata__", which other readers pass over: the digest of the base
// that an adapter belongs to, and behind kTensorDigest the name of each tensor with the digest of its bytes.
inline constexpr const char* kBaseDigest = "lorashard.base_digest";
inline constexpr const char* kTensorDigest = "lorashard.digest.";

// other: a type of the format that this program does not read; such tensors may be in a file.
enum class StoredType { f64, f32, f16, bf16, i64, i32, u8, other };
const char* name(StoredType type);

// "4x12"; "a scalar" where there is no axis.
std::string extents_text(const std::vector<Index>& extents);

class SafeTensors {
 public:
  struct Entry {
    StoredType type;
    std::vector<Index> extents;
    std::uint64_t begin = 0, end = 0;  // bytes in the data section
    Index count() const;               // elements
  };
  struct Header {
    std::map<std::string, Entry> entries;
    std::map<std::string, std::string> metadata;  // "__metadata__"
  };

  // One .safetensors file, or a "....safetensors.index.json" whose weight_map names the shards beside it.
  // Throws Failure::configuration naming file, tensor, found and expected.
  static SafeTensors open(const std::string& path);

  const std::string& path() const { return path_; }
  const std::map<std::string, Entry>& entries() const { return entries_; }
  bool has(const std::string& tensor) const { return entries_.count(tensor) != 0; }
  const Entry& entry(const std::string& tensor) const;  // throws when missing
  // Elements [first, first + count) of a floating tensor in storage order, converted.
  std::vector<float> read(const std::string& tensor, Index first, Index count) const;
  std::vector<float> read(const std::string& tensor) const;
  std::vector<double> read_double(const std::string& tensor) const;
  // As read, but NaN and infinity are refused, naming the element.
  std::vector<float> read_finite(const std::string& tensor, Index first, Index count) const;
  std::vector<float> read_finite(const std::string& tensor) const;

  // In hex, where the file says it; empty otherwise, and for an index.
  std::string base_digest() const;
  // Where the file names its tensors' digests: all are there, no others, and none was changed. Throws as open does.
  void verify_digests() const;
  bool has_digests() const;

  // Checks a header that is in memory (what the fuzzer feeds), throws as open does.
  static Header parse_header(std::span<const char> json, std::uint64_t data_bytes, const std::string& path);

 private:
  struct Shard;
  template <class Number>
  std::vector<Number> read_as(const std::string& tensor, Index first, Index count) const;
  std::string path_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, std::shared_ptr<Shard>> shard_of_;
};

}  // namespace lorashard::core
