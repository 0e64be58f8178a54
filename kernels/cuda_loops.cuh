// What kernels that pass over matrices share: reading and writing a few elements at a time whatever their type is, and
// the loop y = f(x...) over whole matrices.
//
// An operand's type is a value, not a template parameter: all threads take the same branch, which costs nothing beside
// the memory access, and there is one kernel for all mixes of types. Vectors are of four elements: 16 bytes of f32 or 8
// of bf16 a thread, both whole 32-byte sectors for a warp.
#pragma once

#include <algorithm>
#include <bit>
#include <utility>

#include "kernels/launch.hpp"
#include "kernels/numbers.hpp"

namespace lorashard::kernels {

inline constexpr int kThreads = 256;

// Blocks that cover `count` items.
inline unsigned blocks_for(Index count, Index per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

// A matrix as a kernel sees it.
struct Operand {
  std::byte* data;
  Index stride;
  DType dtype;

  template <class T>
  __device__ T* at(Index r, Index c) const {
    return reinterpret_cast<T*>(data) + r * stride + c;
  }
};
inline Operand operand(const ConstMatrix& m) { return {const_cast<std::byte*>(m.data), m.stride, m.dtype}; }
inline Operand operand(const Matrix& m) { return operand(ConstMatrix(m)); }

// Vectors of four may start at every fourth element of every row.
inline bool in_fours(const ConstMatrix& m) {
  const auto address = reinterpret_cast<std::uintptr_t>(m.data);
  return address % static_cast<std::uintptr_t>(4 * size_bytes(m.dtype)) == 0 && (m.rows <= 1 || m.stride % 4 == 0);
}
// And no row ends within one.
inline bool rows_in_fours(const ConstMatrix& m) { return in_fours(m) && m.cols % 4 == 0; }

// kWidth elements as they lie in memory. Kept so until all operands are on their way: to widen one waits for it.
template <int kWidth>
struct Bits {
  std::uint32_t words[kWidth];
};

template <int kWidth>
__device__ Bits<kWidth> fetch(const Operand& m, Index r, Index c) {
  static_assert(kWidth == 1 || kWidth == 4);
  if constexpr (kWidth == 4) {
    if (m.dtype == DType::f32) {
      const float4 v = *reinterpret_cast<const float4*>(m.at<float>(r, c));
      return {std::bit_cast<std::uint32_t>(v.x), std::bit_cast<std::uint32_t>(v.y), std::bit_cast<std::uint32_t>(v.z),
              std::bit_cast<std::uint32_t>(v.w)};
    }
    const uint2 v = *reinterpret_cast<const uint2*>(m.at<bf16>(r, c));
    return {v.x, v.y, 0, 0};
  } else {
    if (m.dtype == DType::f32) return {std::bit_cast<std::uint32_t>(*m.at<float>(r, c))};
    return {m.at<bf16>(r, c)->bits};
  }
}

template <int kWidth>
__device__ void widen(const Operand& m, const Bits<kWidth>& bits, float (&to)[kWidth]) {
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const std::uint32_t pair = bits.words[i / 2];
    const std::uint32_t narrow = i % 2 == 0 ? pair << 16 : pair & 0xffff0000u;
    to[i] = std::bit_cast<float>(m.dtype == DType::f32 ? bits.words[i] : narrow);
  }
}

template <int kWidth>
__device__ void load(const Operand& m, Index r, Index c, float (&to)[kWidth]) {
  widen(m, fetch<kWidth>(m, r, c), to);
}

template <int kWidth>
__device__ void put(const Operand& m, Index r, Index c, const float (&from)[kWidth]) {
  if constexpr (kWidth == 4) {
    if (m.dtype == DType::f32) {
      *reinterpret_cast<float4*>(m.at<float>(r, c)) = make_float4(from[0], from[1], from[2], from[3]);
    } else {
      const auto pair = [&](int i) {
        return std::uint32_t{to_bf16(from[i]).bits} | std::uint32_t{to_bf16(from[i + 1]).bits} << 16;
      };
      *reinterpret_cast<uint2*>(m.at<bf16>(r, c)) = make_uint2(pair(0), pair(2));
    }
  } else {
    if (m.dtype == DType::f32) {
      *m.at<float>(r, c) = from[0];
    } else {
      *m.at<bf16>(r, c) = to_bf16(from[0]);
    }
  }
}

// Makes one long row of operands that all lie without gaps.
template <class... M>
bool flatten_rows(M&... m) {
  if (!(m.contiguous() && ...)) return false;
  ((m = M(m.data, m.dtype, 1, m.count(), m.count())), ...);
  return true;
}

template <int kCount>
struct Operands {
  Operand at[kCount > 0 ? kCount : 1];
};

// One vector (or element) of y = f(x...). Function: y values from x values at (row, first column).
template <int kWidth, int kCount, class Function>
__device__ void map_one(const Function& f, Index r, Index c, const Operands<kCount>& x, const Operand& y) {
  float from[kCount > 0 ? kCount : 1][kWidth], to[kWidth];
#pragma unroll
  for (int k = 0; k < kCount; ++k) load(x.at[k], r, c, from[k]);
  f(r, c, from, to);
  put(y, r, c, to);
}

// Vectors that a thread has in flight of each operand.
inline constexpr int kUnroll = 2;

// Each thread reads its elements of all operands before it writes any, so y may be one of them.
template <int kWidth, int kCount, class Function>
__global__ void __launch_bounds__(kThreads)
    map_kernel(Function f, Index rows, Index cols, Operands<kCount> x, Operand y) {
  const Index first = (Index{blockIdx.x} * kUnroll * blockDim.x + threadIdx.x) * kWidth;
  const Index step = Index{blockDim.x} * kWidth;
  for (Index r = Index{blockIdx.y} * blockDim.y + threadIdx.y; r < rows; r += Index{gridDim.y} * blockDim.y) {
    Bits<kWidth> bits[kUnroll][kCount > 0 ? kCount : 1] = {};
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const Index c = first + u * step;
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        if (c + kWidth <= cols) bits[u][k] = fetch<kWidth>(x.at[k], r, c);
      }
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const Index c = first + u * step;
      if (c + kWidth <= cols) {
        float from[kCount > 0 ? kCount : 1][kWidth], to[kWidth];
#pragma unroll
        for (int k = 0; k < kCount; ++k) widen(x.at[k], bits[u][k], from[k]);
        f(r, c, from, to);
        put(y, r, c, to);
      } else {
#pragma unroll 1
        for (Index i = c; i < cols; ++i) map_one<1>(f, r, i, x, y);
      }
    }
  }
}

// The shape of a grid whose threads each take kUnroll vectors of a row; narrow rows share a block.
inline LaunchShape map_shape(Index rows, Index cols, int width) {
  const Index vectors = (cols + width - 1) / width;
  unsigned across = 1;
  if (vectors >= 32 * kUnroll) {
    across = static_cast<unsigned>(std::min<Index>(kThreads, (vectors + 32 * kUnroll - 1) / (32 * kUnroll) * 32));
  } else {
    while (across < 32 && across < vectors) across *= 2;
  }
  const unsigned down = static_cast<unsigned>(std::min<Index>(kThreads / across, rows));
  const unsigned row_blocks = static_cast<unsigned>(std::min<Index>(blocks_for(rows, down), 65535));
  return {dim3(blocks_for(vectors, across * kUnroll), row_blocks), dim3(across, down)};
}

// y = f(x...) over matrices of equal extents, as they are: flattened by the caller where f does not mind. `vectors`:
// what f reads by itself may be read in fours.
template <class Function, class... X>
void map_rows(Device& device, const Function& f, bool vectors, const Matrix& y, const X&... x) {
  if (y.empty()) return;
  constexpr int kCount = sizeof...(X);
  const Operands<kCount> from{{operand(x)...}};
  const int width = vectors && in_fours(y) && (in_fours(x) && ...) ? 4 : 1;
  const LaunchShape shape = map_shape(y.rows, y.cols, width);
  if (width == 4) {
    launch<map_kernel<4, kCount, Function>>(stream_of(device), shape, f, y.rows, y.cols, from, operand(y));
  } else {
    launch<map_kernel<1, kCount, Function>>(stream_of(device), shape, f, y.rows, y.cols, from, operand(y));
  }
}

// A function of single elements, wherever they lie.
template <class Element>
struct EachElement {
  Element element;

  template <int kCount, int kWidth>
  __device__ void operator()(Index, Index, const float (&from)[kCount][kWidth], float (&to)[kWidth]) const {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      if constexpr (requires { element(); }) {
        to[i] = element();
      } else {
        [&]<std::size_t... k>(std::index_sequence<k...>) { to[i] = element(from[k][i]...); }
        (std::make_index_sequence<kCount>{});
      }
    }
  }
};

// y = element(x...); any x may be y itself, and a stride of 0 repeats one row.
template <class Element, class... X>
void map_elements(Device& device, const Element& element, Matrix y, X... x) {
  flatten_rows(y, x...);
  map_rows(device, EachElement<Element>{element}, true, y, x...);
}

}  // namespace lorashard::kernels
