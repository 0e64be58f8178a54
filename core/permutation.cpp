#include "core/permutation.hpp"

#include <algorithm>

#include "kernels/error.hpp"

namespace lorashard::core {

// The swap-or-not shuffle (Hoang, Morris and Rogaway 2012, figure 1): a round pairs x with k - x modulo n for a random
// k, and swaps each pair or not by a random bit, so it is a permutation for every n, powers of two or not. A dozen
// rounds make all orders of up to six things equally likely; a Feistel network over a few bits does not at any number.
kernels::Index permuted(kernels::Index index, kernels::Index n, kernels::RandomKey key) {
  constexpr std::uint64_t kRounds = 32;
  if (n < 1 || n > kernels::Index{1} << 58 || index < 0 || index >= n)
    kernels::fail(kernels::Failure::other, kernels::text("place ", index, " in an order of ", n, " things"));
  const std::uint64_t things = static_cast<std::uint64_t>(n);
  std::uint64_t x = static_cast<std::uint64_t>(index);
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const auto words = kernels::philox(key, round);
    const std::uint64_t k = (std::uint64_t{words[0]} << 32 | words[1]) % things;
    const std::uint64_t partner = (k + things - x) % things;
    const std::uint64_t pair = std::max(x, partner);  // what both of them call it
    if (kernels::philox(key, (pair + 1) * kRounds + round)[0] & 1) x = partner;
  }
  return static_cast<kernels::Index>(x);
}

}  // namespace lorashard::core
