// The cuda meanings that draw random numbers. The generator gives four words a call, so a thread draws for four
// elements at once; element by element they equal uniform() and normal() of random.hpp.
#include "kernels/cuda_loops.cuh"
#include "kernels/cuda_operations.hpp"

namespace lorashard::kernels {
namespace {

// Element (r, c) of a matrix is element index(r, c) of the stream.
struct GlobalPlace {
  RandomKey key;
  std::uint64_t origin;
  Index global_cols;

  __device__ std::uint64_t index(Index r, Index c) const {
    return origin + static_cast<std::uint64_t>(r * global_cols + c);
  }
};
template <class Args>  // DropoutMask or NormalFill
GlobalPlace place_of(const Args& args) {
  return {args.key, static_cast<std::uint64_t>(args.first_row * args.global_cols + args.first_col), args.global_cols};
}

// Words of elements [index, index + kWidth). Every place in an array is a constant, for arrays to stay in registers.
template <int kWidth>
__device__ void draw(RandomKey key, std::uint64_t index, std::uint32_t (&words)[kWidth]) {
  const int skip = static_cast<int>(index % 4);
  const auto first = philox(key, index / 4);
  std::array<std::uint32_t, 4> second{};
  if (kWidth > 1 && skip > 0) second = philox(key, index / 4 + 1);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    words[i] = first[i];
#pragma unroll
    for (int k = 1; k < 4; ++k) {
      const auto& drawn = i + k < 4 ? first : second;
      words[i] = skip == k ? drawn[(i + k) % 4] : words[i];
    }
  }
}

// factors[i] = 1 / (1 - p) where the element is kept, else 0.
struct MaskFactors {
  GlobalPlace place;
  float probability, kept;

  template <int kWidth>
  __device__ void operator()(Index r, Index c, float (&factors)[kWidth]) const {
    std::uint32_t words[kWidth];
    draw(place.key, place.index(r, c), words);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      factors[i] = static_cast<float>(words[i] >> 8) * 0x1.0p-24f >= probability ? kept : 0.0f;
    }
  }
};
MaskFactors factors_of(const DropoutMask& mask) {
  return {place_of(mask), mask.probability, 1.0f / (1.0f - mask.probability)};
}

struct Dropout {
  MaskFactors mask;

  template <int kWidth>
  __device__ void operator()(Index r, Index c, const float (&x)[1][kWidth], float (&y)[kWidth]) const {
    float factors[kWidth];
    mask(r, c, factors);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) y[i] = factors[i] * x[0][i];
  }
};

struct DropoutAdd {
  MaskFactors mask;

  template <int kWidth>
  __device__ void operator()(Index r, Index c, const float (&from)[2][kWidth], float (&y)[kWidth]) const {
    float factors[kWidth];
    mask(r, c, factors);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) y[i] = from[0][i] + factors[i] * from[1][i];
  }
};

struct Normal {
  GlobalPlace place;
  float scale;

  template <int kWidth>
  __device__ void operator()(Index r, Index c, const float (&)[1][kWidth], float (&y)[kWidth]) const {
    for (int i = 0; i < kWidth; ++i) y[i] = scale * normal(place.key, place.index(r, c) + i);
  }
};

// One long row is the same elements of the stream where the matrix has all columns of the global one.
template <class... M>
void flatten_whole_rows(Index global_cols, M&... m) {
  if (((m.cols == global_cols) && ...)) flatten_rows(m...);
}

}  // namespace

void dropout_cuda(Device& device, const DropoutMask& mask, ConstMatrix x, Matrix y) {
  if (mask.probability == 0.0f) return copy_cuda(device, x, y);
  flatten_whole_rows(mask.global_cols, x, y);
  map_rows(device, Dropout{factors_of(mask)}, true, y, x);
}

void dropout_add_cuda(Device& device, const DropoutMask& mask, ConstMatrix x, Matrix y) {
  if (mask.probability == 0.0f) return add_cuda(device, x, y, 1.0f);
  flatten_whole_rows(mask.global_cols, x, y);
  map_rows(device, DropoutAdd{factors_of(mask)}, true, y, y, x);
}

void fill_normal_cuda(Device& device, const NormalFill& args, Matrix m) {
  flatten_whole_rows(args.global_cols, m);
  map_rows(device, Normal{place_of(args), args.scale}, true, m);
}

}  // namespace lorashard::kernels
