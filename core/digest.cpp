#include "core/digest.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

namespace lorashard::core {
namespace {

using kernels::ConstMatrix;
using kernels::Failure;
using kernels::Index;

// Below this many elements, waking the threads costs more than their help.
constexpr Index kWorthThreads = 1 << 16;

// Three members of the family of 64-bit bijections x ^= x >> a; x *= m; ... of Steele, Lea and Flood 2014 (SplitMix),
// with the constants of Stafford's variants 13, 9 and 4.
template <int a, std::uint64_t m, int b, std::uint64_t n, int c>
inline std::uint64_t scramble(std::uint64_t x) {
  x = (x ^ (x >> a)) * m;
  x = (x ^ (x >> b)) * n;
  return x ^ (x >> c);
}

// `index` picks a random-looking word that the bits are laid over; two more bijections give the halves of the sum. A
// single changed element changes both halves for certain, anything else up to chance.
inline void add(Digest& digest, std::uint64_t index, std::uint64_t bits) {
  const std::uint64_t word =
      scramble<30, 0xBF58476D1CE4E5B9u, 27, 0x94D049BB133111EBu, 31>(index + 0x9E3779B97F4A7C15u) ^ bits;
  digest.low += scramble<31, 0x79C135C1674B9ADDu, 29, 0x54C77C86F6913E45u, 30>(word);
  digest.high += scramble<33, 0x62A9D9ED799705F5u, 28, 0xCB24D0A5C88C35B3u, 32>(word ^ 0xD6E8FEB86659FD93u);
}

template <class Bits>
Digest of_runs(ConstMatrix m, const dist::AxisCut& rows, const dist::AxisCut& cols) {
  const Index width = cols.global_extent();
  Digest total;
  for (const dist::Run& r : rows.runs()) {
    std::uint64_t high = 0, low = 0;
#pragma omp parallel for reduction(+ : high, low) schedule(static) if (m.count() > kWorthThreads)
    for (Index i = 0; i < r.count; ++i) {
      Digest row;
      for (const dist::Run& c : cols.runs()) {
        const Bits* from = m.row<const Bits>(r.local.value + i) + c.local.value;
        const Index first = (r.global.value + i) * width + c.global.value;
        for (Index j = 0; j < c.count; ++j) add(row, static_cast<std::uint64_t>(first + j), from[j]);
      }
      high += row.high;
      low += row.low;
    }
    total += Digest{high, low};
  }
  return total;
}

}  // namespace

Digest& Digest::operator+=(const Digest& other) {
  high += other.high;
  low += other.low;
  return *this;
}

std::string Digest::hex() const {
  std::string out(32, '0');
  for (int i = 0; i < 16; ++i) {
    out[i] = "0123456789abcdef"[(high >> (60 - 4 * i)) & 15];
    out[16 + i] = "0123456789abcdef"[(low >> (60 - 4 * i)) & 15];
  }
  return out;
}

Digest Digest::from_hex(const std::string& hex) {
  const auto refuse = [] {
    kernels::fail(Failure::storage, "a digest is 32 hexadecimal digits 0-9 a-f, found other text");
  };
  if (hex.size() != 32) refuse();
  Digest digest;
  for (int i = 0; i < 32; ++i) {
    const char c = hex[i];
    const bool digit = c >= '0' && c <= '9', letter = c >= 'a' && c <= 'f';
    if (!digit && !letter) refuse();
    std::uint64_t& half = i < 16 ? digest.high : digest.low;
    half = half << 4 | static_cast<std::uint64_t>(digit ? c - '0' : c - 'a' + 10);
  }
  return digest;
}

Digest digest_of(ConstMatrix m, const dist::AxisCut& rows, const dist::AxisCut& cols) {
  if (m.rows != rows.local_extent() || m.cols != cols.local_extent())
    kernels::fail(Failure::other, kernels::text("digest of a ", kernels::extents(m), " matrix whose cuts give ",
                                                rows.local_extent(), "x", cols.local_extent()));
  return m.dtype == kernels::DType::f32 ? of_runs<std::uint32_t>(m, rows, cols) : of_runs<std::uint16_t>(m, rows, cols);
}

Digest digest_of(const void* data, std::size_t bytes) {
  static_assert(std::endian::native == std::endian::little, "words are taken as they lie in memory");
  const char* from = static_cast<const char*>(data);
  Digest digest;
  add(digest, ~std::uint64_t{0}, bytes);  // so that trailing zeros count
  for (std::size_t at = 0; at < bytes; at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, from + at, std::min<std::size_t>(8, bytes - at));
    add(digest, at / 8, word);
  }
  return digest;
}

std::vector<Digest> sums_of(dist::Communicator& communicator, const std::vector<Digest>& digests) {
  // Doubles carry 32 bits exactly, so the verb for numbers moves four quarters of each digest.
  const std::size_t n = digests.size();
  std::vector<double> mine;
  mine.reserve(4 * n);
  for (const Digest& d : digests)
    for (const std::uint64_t quarter : {d.high >> 32, d.high & 0xffffffffu, d.low >> 32, d.low & 0xffffffffu})
      mine.push_back(static_cast<double>(quarter));
  const std::vector<double> all = communicator.gather_values(mine);
  std::vector<Digest> sums(n);
  for (std::size_t i = 0; i < all.size(); i += 4) {
    const auto word = [&](std::size_t k) { return static_cast<std::uint64_t>(all[i + k]); };
    sums[i / 4 % n] += Digest{word(0) << 32 | word(1), word(2) << 32 | word(3)};
  }
  return sums;
}

Digest sum_of(dist::Communicator& communicator, const Digest& digest) {
  return sums_of(communicator, {digest}).front();
}

}  // namespace lorashard::core
