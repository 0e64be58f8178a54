// The host meanings that draw random numbers. The generator gives four words a call, so a block's words are drawn
// together; element by element they equal uniform() and normal() of random.hpp.
#include "kernels/host_loops.hpp"
#include "kernels/host_operations.hpp"

namespace lorashard::kernels {
namespace {

// Words of elements [index, index + count), count <= kBlock; the first wanted word is the returned pointer.
const std::uint32_t* draw(RandomKey key, std::uint64_t index, Index count, std::uint32_t* room) {
  const Index skip = static_cast<Index>(index % 4);
  const Index groups = divide_up(skip + count, 4);
  for (Index g = 0; g < groups; ++g) {
    const auto words = philox(key, index / 4 + g);
    std::copy_n(words.data(), 4, room + 4 * g);
  }
  return room + skip;
}

// factors[i] = 1 / (1 - p) where element index + i is kept, else 0.
void mask_factors(const DropoutMask& mask, Index r, Index first, Index count, float* factors) {
  const auto index = static_cast<std::uint64_t>((mask.first_row + r) * mask.global_cols + mask.first_col + first);
  const float p = mask.probability, kept = 1.0f / (1.0f - p);
  std::uint32_t room[kBlock + 8];
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
