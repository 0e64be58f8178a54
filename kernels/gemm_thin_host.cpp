// Products with one small extent (R, an adapter's rank) and two large ones. They move much memory for little
// arithmetic, and oneDNN's blocking does not pay. In LoRA's terms, with x (tokens, in) and u = x A^T:
//
//   reduce    C (M,R) = X (M,K) P (K,R)       u = x A^T, du = dy B
//   update    C (M,N) += U (M,R) Q (R,N)      y += u B^T, dx += du A
//   gradient  C (R,N) += D^T X, or its transpose, summed over tokens: dA = du^T x, dB = dy^T u
//
// The small operand is packed as the loops want it; the large ones are read and written where they lie.
#include <omp.h>

#include <algorithm>

#include "kernels/gemm_host.hpp"
#include "kernels/gemm_thin_kernels.hpp"
#include "kernels/numbers.hpp"

namespace lorashard::kernels {
namespace {

enum class ThinKind { none, reduce, update, gradient };

// Above this rank oneDNN is as fast or faster.
constexpr Index kThin = 32;
// Below this the large extents are small too.
constexpr Index kLarge = 64;

ThinKind kind_of(const Gemm& args) {
  const ProductExtents e = extents_of(args);
  if (args.bias.count() != 0 || e.m == 0 || e.n == 0 || e.k == 0) return ThinKind::none;
  if (e.k <= kThin && e.m >= kLarge && e.n >= kLarge) return ThinKind::update;
  if (e.n <= kThin && e.m >= kLarge && e.k >= kLarge) {
    return args.transpose_a ? ThinKind::gradient : ThinKind::reduce;
  }
  if (e.m <= kThin && e.n >= kLarge && e.k >= kLarge && !args.transpose_b) return ThinKind::gradient;
  return ThinKind::none;
}

constexpr Index round_up(Index n, Index unit) { return (n + unit - 1) / unit * unit; }

// to (rows, stride) = scale * op(from), zeros in the columns beyond.
template <class T>
void pack_as(ConstMatrix from, bool transposed, float scale, float* to, Index stride) {
  const Index rows = transposed ? from.cols : from.rows, cols = transposed ? from.rows : from.cols;
#pragma omp parallel for
  for (Index r = 0; r < rows; ++r) {
    float* row = to + r * stride;
    for (Index c = 0; c < cols; ++c) {
      row[c] = scale * to_float(transposed ? from.row<T>(c)[r] : from.row<T>(r)[c]);
    }
    std::fill(row + cols, row + stride, 0.0f);
  }
}
void pack(ConstMatrix from, bool transposed, float scale, float* to, Index stride) {
  from.dtype == DType::f32 ? pack_as<float>(from, transposed, scale, to, stride)
                           : pack_as<bf16>(from, transposed, scale, to, stride);
}

// Calls run(first, last) on each thread, for even parts of [0, count) that begin at multiples of `unit`.
template <class Run>
void divide(Index count, Index unit, Run run) {
  const Index units = (count + unit - 1) / unit;
#pragma omp parallel
  {
    const Index thread = omp_get_thread_num(), threads = omp_get_num_threads();
    const Index first = units * thread / threads * unit, last = units * (thread + 1) / threads * unit;
    if (first < last) run(first, std::min(last, count));
  }
}

// Whole tiles of every loop in gemm_thin_kernels.cpp.
constexpr Index kRowUnit = 48, kColUnit = 96;

void reduce(const Gemm& args, float* p) {
  const Index stride = round_up(args.c.cols, kThinPad);
  pack(args.b, args.transpose_b, args.alpha, p, stride);
  const ThinReduce loops{.x = args.a, .p = p, .p_stride = stride, .beta = args.beta, .c = args.c};
  divide(args.c.rows, kRowUnit, [&](Index first, Index last) { thin_reduce(loops, first, last); });
}

void update(const Gemm& args, float* scratch) {
  const ProductExtents e = extents_of(args);
  float *u = scratch, *q = scratch + e.m * e.k;
  pack(args.a, args.transpose_a, 1.0f, u, e.k);
  pack(args.b, args.transpose_b, args.alpha, q, e.n);
  const ThinUpdate loops{.u = u, .q = q, .rank = e.k, .beta = args.beta, .c = args.c};
  divide(e.m, kRowUnit, [&](Index first, Index last) { thin_update(loops, first, last); });
}

// C = beta C + op(G).
template <class Out>
void finish(const Gemm& args, ConstMatrix g, bool transposed) {
#pragma omp parallel for
  for (Index r = 0; r < args.c.rows; ++r) {
    Out* out = args.c.row<Out>(r);
    for (Index c = 0; c < args.c.cols; ++c) {
      const float sum = transposed ? g.row<float>(c)[r] : g.row<float>(r)[c];
      store(out[c], args.beta == 0.0f ? sum : sum + args.beta * to_float(out[c]));
    }
  }
}

void gradient(const Gemm& args, float* scratch) {
  const ProductExtents e = extents_of(args);
  const bool transposed = e.n <= kThin && args.transpose_a;  // C (N,R): the large operand is A
  const Index rank = transposed ? e.n : e.m, n = transposed ? e.m : e.n;
  float *d = scratch, *g = scratch + e.k * rank;
  transposed ? pack(args.b, args.transpose_b, args.alpha, d, rank)
             : pack(args.a, !args.transpose_a, args.alpha, d, rank);
  const ThinGradient loops{.d = d, .rank = rank, .x = transposed ? args.a : args.b, .g = g};
  divide(n, kColUnit, [&](Index first, Index last) { thin_gradient(loops, first, last); });
  args.c.dtype == DType::f32 ? finish<float>(args, view(g, rank, n), transposed)
                             : finish<bf16>(args, view(g, rank, n), transposed);
}

}  // namespace

bool is_thin(const Gemm& args) { return kind_of(args) != ThinKind::none; }

Index gemm_thin_scratch(const Gemm& args) {
  const ProductExtents e = extents_of(args);
  Index count = 0;
  switch (kind_of(args)) {
    case ThinKind::reduce:
      count = e.k * round_up(e.n, kThinPad);
      break;
    case ThinKind::update:
      count = e.m * e.k + e.k * e.n;
      break;
    case ThinKind::gradient:
      count = std::min(e.m, e.n) * (e.k + std::max(e.m, e.n));
      break;
    case ThinKind::none:
      break;
  }
  return count * size_bytes(DType::f32);
}

void gemm_thin(const Gemm& args, std::byte* scratch) {
  float* floats = reinterpret_cast<float*>(scratch);
  switch (kind_of(args)) {
    case ThinKind::reduce:
      return reduce(args, floats);
    case ThinKind::update:
      return update(args, floats);
    case ThinKind::gradient:
      return gradient(args, floats);
    case ThinKind::none:
      break;
  }
}

}  // namespace lorashard::kernels
