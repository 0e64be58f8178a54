// Counter-based random numbers: Philox 4x32-10, Salmon et al. 2011 ("Parallel random numbers: as easy as 1, 2, 3").
// A value is a pure function of (seed, stream, index), so any mesh draws, and drops out, the same numbers.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "kernels/numbers.hpp"

namespace lorashard::kernels {

// A key: `seed` of the job and a `stream` that names one tensor or one use (see stream_of).
struct RandomKey {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
};

LORASHARD_BOTH std::array<std::uint32_t, 4> philox(RandomKey key, std::uint64_t counter) {
  std::uint32_t c0 = static_cast<std::uint32_t>(counter), c1 = static_cast<std::uint32_t>(counter >> 32);
  std::uint32_t c2 = static_cast<std::uint32_t>(key.stream), c3 = static_cast<std::uint32_t>(key.stream >> 32);
  std::uint32_t k0 = static_cast<std::uint32_t>(key.seed), k1 = static_cast<std::uint32_t>(key.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0, p1 = std::uint64_t{0xCD9E8D57u} * c2;
    const std::uint32_t n0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const std::uint32_t n2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

// Uniform in [0, 1) with 24 bits: element `index` of the stream.
LORASHARD_BOTH float uniform(RandomKey key, std::uint64_t index) {
  const auto words = philox(key, index / 4);
  return static_cast<float>(words[index % 4] >> 8) * 0x1.0p-24f;
}

// Standard normal: element `index` of the stream (Box-Muller on two words of its own).
LORASHARD_BOTH float normal(RandomKey key, std::uint64_t index) {
  const auto words = philox(key, index / 2);
  const std::uint32_t a = words[(index % 2) * 2], b = words[(index % 2) * 2 + 1];
  const float u = (static_cast<float>(a >> 8) + 1.0f) * 0x1.0p-24f;  // (0, 1]
  const float v = static_cast<float>(b >> 8) * 0x1.0p-24f;
  return std::sqrt(-2.0f * std::log(u)) * std::cos(6.283185307179586f * v);
}

}  // namespace lorashard::kernels
