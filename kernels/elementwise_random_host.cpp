// The host meanings that draw random numbers. The generator gives four words a call, so a block's words are drawn
// together; element by element they equal uniform() and normal() of random.hpp.
#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "kernels/host_loops.hpp"
#include "kernels/host_operations.hpp"

namespace lorashard::kernels {
namespace {

#ifdef __AVX2__
// philox() of random.hpp for four counters side by side, each word in the low half of a 64-bit lane: the multiply takes
// the low halves alone, so nothing has to be masked or moved between lanes. Compilers find no such form by themselves
// (GCC 12 makes vector code no faster than scalar); this one is three times as fast.
void philox_four(RandomKey key, std::uint64_t first, std::uint32_t* words) {
  const __m256i counters = _mm256_add_epi64(_mm256_set1_epi64x(first), _mm256_set_epi64x(3, 2, 1, 0));
  __m256i c0 = counters, c1 = _mm256_srli_epi64(counters, 32);
  __m256i c2 = _mm256_set1_epi64x(key.stream), c3 = _mm256_set1_epi64x(key.stream >> 32);
  auto k0 = static_cast<std::uint32_t>(key.seed), k1 = static_cast<std::uint32_t>(key.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const __m256i p0 = _mm256_mul_epu32(c0, _mm256_set1_epi64x(0xD2511F53u));
    const __m256i p1 = _mm256_mul_epu32(c2, _mm256_set1_epi64x(0xCD9E8D57u));
    c0 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), c1), _mm256_set1_epi64x(k0));
    c2 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), c3), _mm256_set1_epi64x(k1));
    c1 = p1;
    c3 = p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const __m256i low01 = _mm256_blend_epi32(c0, _mm256_slli_epi64(c1, 32), 0xaa);
  const __m256i low23 = _mm256_blend_epi32(c2, _mm256_slli_epi64(c3, 32), 0xaa);
  const __m256i even = _mm256_unpacklo_epi64(low01, low23), odd = _mm256_unpackhi_epi64(low01, low23);
  auto* to = reinterpret_cast<__m256i*>(words);
  _mm256_storeu_si256(to, _mm256_permute2x128_si256(even, odd, 0x20));
  _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(even, odd, 0x31));
}
#else
void philox_four(RandomKey key, std::uint64_t first, std::uint32_t* words) {
  for (int i = 0; i < 4; ++i) {
    const auto four = philox(key, first + i);
    std::copy_n(four.data(), 4, words + 4 * i);
  }
}
#endif

// Words of elements [index, index + count), count <= kBlock; the first wanted word is the returned pointer.
const std::uint32_t* draw(RandomKey key, std::uint64_t index, Index count, std::uint32_t* room) {
  const Index skip = static_cast<Index>(index % 4);
  for (Index i = 0; i < skip + count; i += 16) philox_four(key, index / 4 + i / 4, room + i);
  return room + skip;
}

// factors[i] = 1 / (1 - p) where element index + i is kept, else 0.
void mask_factors(const DropoutMask& mask, Index r, Index first, Index count, float* factors) {
  const auto index = static_cast<std::uint64_t>((mask.first_row + r) * mask.global_cols + mask.first_col + first);
  const float p = mask.probability, kept = 1.0f / (1.0f - p);
  std::uint32_t room[kBlock + 32];
  const std::uint32_t* words = draw(mask.key, index, count, room);
#pragma omp simd
  for (Index i = 0; i < count; ++i) {
    const float uniform = static_cast<float>(static_cast<std::int32_t>(words[i] >> 8)) * 0x1.0p-24f;
    factors[i] = uniform >= p ? kept : 0.0f;
  }
}

}  // namespace

void dropout_host(const DropoutMask& mask, ConstMatrix x, Matrix y) {
  if (mask.probability == 0.0f) return copy_host(x, y);
  for_blocks(x.rows, x.cols, [&](Index r, Index first, Index count) {
    float factors[kBlock], room[kBlock], result[kBlock];
    mask_factors(mask, r, first, count, factors);
    const float* from = read(x, r, first, count, room);
    float* to = target(y, r, first, result);
#pragma omp simd
    for (Index i = 0; i < count; ++i) to[i] = factors[i] * from[i];
    write(y, r, first, count, to);
  });
}

void dropout_add_host(const DropoutMask& mask, ConstMatrix x, Matrix y) {
  if (mask.probability == 0.0f) return add_host(x, y, 1.0f);
  for_blocks(x.rows, x.cols, [&](Index r, Index first, Index count) {
    float factors[kBlock], room[kBlock], before[kBlock], result[kBlock];
    mask_factors(mask, r, first, count, factors);
    const float* from = read(x, r, first, count, room);
    const float* old = read(y, r, first, count, before);
    float* to = target(y, r, first, result);
#pragma omp simd
    for (Index i = 0; i < count; ++i) to[i] = old[i] + factors[i] * from[i];
    write(y, r, first, count, to);
  });
}

void fill_normal_host(const NormalFill& args, Matrix m) {
  for_blocks(m.rows, m.cols, [&](Index r, Index first, Index count) {
    const auto index = static_cast<std::uint64_t>((args.first_row + r) * args.global_cols + args.first_col + first);
    float room[kBlock];
    float* to = target(m, r, first, room);
    for (Index i = 0; i < count; ++i) to[i] = args.scale * normal(args.key, index + i);
    write(m, r, first, count, to);
  });
}

}  // namespace lorashard::kernels
