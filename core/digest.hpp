// A tensor's digest: the sum over its elements of a 128-bit mix of (global index, value bits), modulo 2^64 twice.
// Sums commute, so slices on any mesh add up to the digest of the whole, in any order. It finds every changed bit and
// every exchanged pair of elements (up to a chance of 2^-128); it is no defence against somebody who forges files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dist/communicator.hpp"
#include "dist/shard.hpp"
#include "kernels/view.hpp"

namespace lorashard::core {

struct Digest {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  Digest& operator+=(const Digest& other);
  bool operator==(const Digest&) const = default;
  std::string hex() const;                     // 32 hexadecimal digits
  static Digest from_hex(const std::string&);  // throws Failure::storage
};

// m is this rank's part (host memory, f32 or bf16) of a global matrix with the cuts given.
Digest digest_of(kernels::ConstMatrix m, const dist::AxisCut& rows, const dist::AxisCut& cols);
// Of a byte string (configs, names, integer arrays).
Digest digest_of(const void* data, std::size_t bytes);

// The sum over the ranks of a group; of many digests in one exchange.
Digest sum_of(dist::Communicator& communicator, const Digest& digest);
std::vector<Digest> sums_of(dist::Communicator& communicator, const std::vector<Digest>& digests);

}  // namespace lorashard::core
