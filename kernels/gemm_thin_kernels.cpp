#include "kernels/gemm_thin_kernels.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/gemm_host.hpp"
#include "kernels/numbers.hpp"

namespace lorashard::kernels {
namespace {

template <Index kLanes>
struct Vectors;
template <>
struct Vectors<8> {
  typedef float Vec __attribute__((vector_size(32)));
  typedef std::uint32_t Words __attribute__((vector_size(32)));
  typedef std::uint16_t Halves __attribute__((vector_size(16)));
};
template <>
struct Vectors<16> {
  typedef float Vec __attribute__((vector_size(64)));
  typedef std::uint32_t Words __attribute__((vector_size(64)));
  typedef std::uint16_t Halves __attribute__((vector_size(32)));
};

// Vectors are passed by reference: by value they would belong to an ABI that one of the two targets does not have.
template <Index kLanes>
struct Simd {
  using Vec = typename Vectors<kLanes>::Vec;
  using Words = typename Vectors<kLanes>::Words;
  using Halves = typename Vectors<kLanes>::Halves;

  static void load(const float* p, Vec& v) { std::memcpy(&v, p, sizeof v); }
  static void load(const bf16* p, Vec& v) {
    Halves h;
    std::memcpy(&h, p, sizeof h);
    v = reinterpret_cast<Vec>(__builtin_convertvector(h, Words) << 16);
  }
  static void save(float* p, const Vec& v) { std::memcpy(p, &v, sizeof v); }
  // As to_bf16 does.
  static void save(bf16* p, const Vec& v) {
    const Words u = reinterpret_cast<Words>(v);
    const Words rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    const Words quiet = (u >> 16) | 0x40u;
    const Words result = (u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded;
    const Halves h = __builtin_convertvector(result, Halves);
    std::memcpy(p, &h, sizeof h);
  }
};

// Calls f(0), ..., f(n - 1) with constants. An array that is only ever indexed by constants lives in registers;
// whether it does after the compiler's own unrolling depends on the order of its passes.
#define LORASHARD_INLINE __attribute__((always_inline))
template <Index n, class F>
LORASHARD_INLINE inline void each(F f) {
  [&]<Index... i>(std::integer_sequence<Index, i...>) LORASHARD_INLINE { (f(std::integral_constant<Index, i>()), ...); }
  (std::make_integer_sequence<Index, n>());
}

// A tile of kRows x kVecs sums stays in registers: 8 to 12 of 16, or 16 of 32, which also hides an FMA's latency.
template <Index kLanes, Index kRows, Index kVecs>
struct Tile {
  using S = Simd<kLanes>;
  typename S::Vec sum[kRows][kVecs];

  // f(r, v) for each of the sums.
  template <class F>
  LORASHARD_INLINE void for_each(F f) {
    each<kRows>([&](auto r) LORASHARD_INLINE { each<kVecs>([&](auto v) LORASHARD_INLINE { f(r, v); }); });
  }
  LORASHARD_INLINE void clear() {
    for_each([&](auto r, auto v) LORASHARD_INLINE { sum[r][v] = typename S::Vec{}; });
  }
  LORASHARD_INLINE void load(const float* from, Index stride) {
    for_each([&](auto r, auto v) LORASHARD_INLINE { S::load(from + r * stride + v * kLanes, sum[r][v]); });
  }
  LORASHARD_INLINE void save(float* to, Index stride) {
    for_each([&](auto r, auto v) LORASHARD_INLINE { S::save(to + r * stride + v * kLanes, sum[r][v]); });
  }
  // sum[r] += left[r * left_stride] * right
  template <class Right>
  LORASHARD_INLINE void add_product(const float* left, Index left_stride, const Right* right) {
    typename S::Vec vectors[kVecs];
    each<kVecs>([&](auto v) LORASHARD_INLINE { S::load(right + v * kLanes, vectors[v]); });
    for_each([&](auto r, auto v) LORASHARD_INLINE { sum[r][v] += left[r * left_stride] * vectors[v]; });
  }
};

// ---- reduce: C (M,R) = X (M,K) P (K,R) ----------------------------------------------------------------------------

constexpr Index kDepth = 256;  // bf16 rows are widened in pieces of this many columns, which stay in the first cache

template <Index kLanes, Index kRows, Index kVecs>
void reduce_tile(const float* x, Index x_stride, const float* p, Index p_stride, Index depth, float* sums) {
  Tile<kLanes, kRows, kVecs> tile;
  tile.load(sums, kVecs * kLanes);
  for (Index k = 0; k < depth; ++k) tile.add_product(x + k, x_stride, p + k * p_stride);
  tile.save(sums, kVecs * kLanes);
}

template <class Out>
void finish(const float* sum, float beta, Out* out, Index count) {
  for (Index i = 0; i < count; ++i) store(out[i], beta == 0.0f ? sum[i] : sum[i] + beta * to_float(out[i]));
}

template <Index kLanes, Index kRows, Index kVecs>
void reduce_rows(const ThinReduce& args, Index row, Index col) {
  float sums[kRows * kVecs * kLanes] = {};
  const Index depth = args.x.cols;
  const float* p = args.p + col;
  if (args.x.dtype == DType::f32) {
    reduce_tile<kLanes, kRows, kVecs>(args.x.row<float>(row), args.x.stride, p, args.p_stride, depth, sums);
  } else {
    float wide[kRows * kDepth];
    for (Index first = 0; first < depth; first += kDepth) {
      const Index count = std::min(kDepth, depth - first);
      for (Index r = 0; r < kRows; ++r) {
        const bf16* from = args.x.row<bf16>(row + r) + first;
        for (Index i = 0; i < count; ++i) wide[r * kDepth + i] = to_float(from[i]);
      }
      reduce_tile<kLanes, kRows, kVecs>(wide, kDepth, p + first * args.p_stride, args.p_stride, count, sums);
    }
  }
  const Index cols = std::min(args.c.cols - col, kVecs * kLanes);
  for (Index r = 0; r < kRows; ++r) {
    const float* sum = sums + r * kVecs * kLanes;
    args.c.dtype == DType::f32 ? finish(sum, args.beta, args.c.row<float>(row + r) + col, cols)
                               : finish(sum, args.beta, args.c.row<bf16>(row + r) + col, cols);
  }
}

template <Index kLanes, Index kRows, Index kVecs>
void reduce_columns(const ThinReduce& args, Index first, Index last, Index col) {
  for (; first + kRows <= last; first += kRows) reduce_rows<kLanes, kRows, kVecs>(args, first, col);
  for (; first < last; ++first) reduce_rows<kLanes, 1, kVecs>(args, first, col);
}

template <Index kLanes>
void reduce(const ThinReduce& args, Index first, Index last) {
  constexpr bool wide = kLanes == 16;
  for (Index col = 0; col < args.c.cols;) {
    const Index vecs = (args.c.cols - col + kLanes - 1) / kLanes;
    if (args.c.cols - col <= 8) {
      reduce_columns<8, 8, 1>(args, first, last, col);
      col += 8;
    } else if (vecs == 1) {
      reduce_columns<kLanes, 16, 1>(args, first, last, col);
      col += kLanes;
    } else if (vecs == 2 || wide) {
      reduce_columns<kLanes, wide ? 8 : 6, 2>(args, first, last, col);
      col += 2 * kLanes;
    } else {
      reduce_columns<kLanes, 4, 3>(args, first, last, col);
      col += 3 * kLanes;
    }
  }
}

// ---- update: C (M,N) = beta C + U (M,R) Q (R,N) -------------------------------------------------------------------

template <Index kLanes, Index kRows, Index kVecs, class Out>
void update_tile(const ThinUpdate& args, const float* u, const float* q, Out* c) {
  using S = Simd<kLanes>;
  Tile<kLanes, kRows, kVecs> tile;
  tile.clear();
  for (Index k = 0; k < args.rank; ++k) tile.add_product(u + k, args.rank, q + k * args.c.cols);
  tile.for_each([&](auto r, auto v) LORASHARD_INLINE {
    Out* out = c + r * args.c.stride + v * kLanes;
    if (args.beta != 0.0f) {
      typename S::Vec before;
      S::load(out, before);
      tile.sum[r][v] += args.beta * before;
    }
    S::save(out, tile.sum[r][v]);
  });
}

template <class Out>
void update_element(const ThinUpdate& args, const float* u, const float* q, Out& out) {
  float sum = 0.0f;
  for (Index k = 0; k < args.rank; ++k) sum += u[k] * q[k * args.c.cols];
  if (args.beta != 0.0f) sum += args.beta * to_float(out);
  store(out, sum);
}

template <Index kLanes, Index kRows, class Out>
void update_rows(const ThinUpdate& args, Index row) {
  const Index n = args.c.cols;
  const float* u = args.u + row * args.rank;
  Out* c = args.c.row<Out>(row);
  Index col = 0;
  for (; col + 2 * kLanes <= n; col += 2 * kLanes) update_tile<kLanes, kRows, 2>(args, u, args.q + col, c + col);
  for (; col + 8 <= n; col += 8) update_tile<8, kRows, 1>(args, u, args.q + col, c + col);
  for (; col < n; ++col) {
    for (Index r = 0; r < kRows; ++r) update_element(args, u + r * args.rank, args.q + col, c[r * args.c.stride + col]);
  }
}

template <Index kLanes, class Out>
void update(const ThinUpdate& args, Index first, Index last) {
  constexpr Index kRows = kLanes == 16 ? 8 : 6;
  for (; first + kRows <= last; first += kRows) update_rows<kLanes, kRows, Out>(args, first);
  for (; first < last; ++first) update_rows<kLanes, 1, Out>(args, first);
}

// ---- gradient: G (R,N) = D (K,R)^T X (K,N) ------------------------------------------------------------------------

// Tokens a tile takes at once: enough that loading and saving its part of G is little beside them, few enough that
// the rows of X that are read side by side stay in the first cache.
constexpr Index kTokens = 32;

template <Index kLanes, Index kRanks, Index kVecs, class In>
void gradient_tile(const ThinGradient& args, Index token, Index tokens, Index first_rank, Index col) {
  const float* d = args.d + token * args.rank + first_rank;
  const In* x = args.x.row<In>(token) + col;
  float* g = args.g + first_rank * args.x.cols + col;
  Tile<kLanes, kRanks, kVecs> tile;
  tile.load(g, args.x.cols);
  for (Index k = 0; k < tokens; ++k) tile.add_product(d + k * args.rank, 1, x + k * args.x.stride);
  tile.save(g, args.x.cols);
}

template <Index kLanes, Index kVecs, class In>
void gradient_ranks(const ThinGradient& args, Index token, Index tokens, Index col) {
  constexpr Index kRanks = kLanes == 16 ? 8 : 4;
  Index r = 0;
  for (; r + kRanks <= args.rank; r += kRanks) gradient_tile<kLanes, kRanks, kVecs, In>(args, token, tokens, r, col);
  for (; r < args.rank; ++r) gradient_tile<kLanes, 1, kVecs, In>(args, token, tokens, r, col);
}

template <class In>
void gradient_element(const ThinGradient& args, Index token, Index tokens, Index r, Index col) {
  float& sum = args.g[r * args.x.cols + col];
  for (Index k = token; k < token + tokens; ++k) sum += args.d[k * args.rank + r] * to_float(args.x.row<In>(k)[col]);
}

template <Index kLanes, class In>
void gradient(const ThinGradient& args, Index first, Index last) {
  constexpr Index kVecs = kLanes == 16 ? 2 : 3;
  for (Index r = 0; r < args.rank; ++r) {
    float* row = args.g + r * args.x.cols;
    std::fill(row + first, row + last, 0.0f);
  }
  for (Index token = 0; token < args.x.rows; token += kTokens) {
    const Index tokens = std::min(kTokens, args.x.rows - token);
    Index col = first;
    for (; col + kVecs * kLanes <= last; col += kVecs * kLanes) {
      gradient_ranks<kLanes, kVecs, In>(args, token, tokens, col);
    }
    for (; col + 8 <= last; col += 8) gradient_ranks<8, 1, In>(args, token, tokens, col);
    for (; col < last; ++col) {
      for (Index r = 0; r < args.rank; ++r) gradient_element<In>(args, token, tokens, r, col);
    }
  }
}

// ---- both widths --------------------------------------------------------------------------------------------------

template <Index kLanes>
void update_any(const ThinUpdate& args, Index first, Index last) {
  args.c.dtype == DType::f32 ? update<kLanes, float>(args, first, last) : update<kLanes, bf16>(args, first, last);
}

template <Index kLanes>
void gradient_any(const ThinGradient& args, Index first, Index last) {
  args.x.dtype == DType::f32 ? gradient<kLanes, float>(args, first, last) : gradient<kLanes, bf16>(args, first, last);
}

// Flattened: all of the above is inlined and compiled anew for the target of the function it is inlined into.
#define LORASHARD_AVX512 [[gnu::flatten, gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]]
LORASHARD_AVX512 void reduce_avx512(const ThinReduce& a, Index first, Index last) { reduce<16>(a, first, last); }
LORASHARD_AVX512 void update_avx512(const ThinUpdate& a, Index first, Index last) { update_any<16>(a, first, last); }
LORASHARD_AVX512 void gradient_avx512(const ThinGradient& a, Index first, Index last) {
  gradient_any<16>(a, first, last);
}
[[gnu::flatten]] void reduce_plain(const ThinReduce& a, Index first, Index last) { reduce<8>(a, first, last); }
[[gnu::flatten]] void update_plain(const ThinUpdate& a, Index first, Index last) { update_any<8>(a, first, last); }
[[gnu::flatten]] void gradient_plain(const ThinGradient& a, Index first, Index last) {
  gradient_any<8>(a, first, last);
}

}  // namespace

void thin_reduce(const ThinReduce& args, Index first, Index last) {
  has_avx512() ? reduce_avx512(args, first, last) : reduce_plain(args, first, last);
}

void thin_update(const ThinUpdate& args, Index first, Index last) {
  has_avx512() ? update_avx512(args, first, last) : update_plain(args, first, last);
}

void thin_gradient(const ThinGradient& args, Index first, Index last) {
  has_avx512() ? gradient_avx512(args, first, last) : gradient_plain(args, first, last);
}

}  // namespace lorashard::kernels
