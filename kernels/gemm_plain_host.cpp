// fp32 products: oneDNN's sgemm on parts of C that threads take in turn.
//
// Measured on 2 cores of a Sapphire Rapids for GPT-2's shapes (M 1024, N and K 768 to 50257), GFLOP/s: sgemm 340 to
// 430, oneDNN's matmul primitive 110 to 380 with AVX512 (its blocked kernels lose on long row strides), both 220 to
// 240 with AVX2. Cutting C ourselves costs nothing there, gains 10 % where C is wide and low (the head), keeps a
// part in the second cache while its bias is set, and leaves each sum to one thread: the library would share a long
// k between threads and round differently for each number of them.
#include <omp.h>

#include <algorithm>
#include <dnnl.hpp>

#include "kernels/gemm_host.hpp"
#include "kernels/numbers.hpp"

namespace lorashard::kernels {
namespace {

constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

// How C is cut: parts of rows x cols, the last ones smaller.
struct Parts {
  Index rows, cols;
  Index row_count, col_count;
  Index count() const { return row_count * col_count; }
};

// Even parts near rows x cols, in whole tiles of the library's inner kernels (8 x 48, 4 x 24).
Parts even_parts(const ProductExtents& e, Index rows, Index cols) {
  rows = ceil_div(ceil_div(e.m, ceil_div(e.m, rows)), 8) * 8;
  cols = ceil_div(ceil_div(e.n, ceil_div(e.n, cols)), 48) * 48;
  return {rows, cols, ceil_div(e.m, rows), ceil_div(e.n, cols)};
}

// Parts follow from the shape, and the result does not depend on the number of threads, while there are as many parts
// as threads. More threads get smaller parts, for which the library may choose kernels that round differently.
Parts parts_of(const ProductExtents& e, Index threads) {
  // Near these extents the library reaches its full speed; smaller ones lose 3 to 8 %.
  Index rows = 512, cols = 768;
  const auto halve_until = [&](Index wanted) {
    while (even_parts(e, rows, cols).count() < wanted && rows > 64) 2 * cols >= 3 * rows ? cols /= 2 : rows /= 2;
  };
  halve_until(2);
  halve_until(threads);
  return even_parts(e, rows, cols);
}

// C = beta C + bias.
template <class Bias>
void begin(float beta, ConstMatrix bias, Matrix c) {
  for (Index r = 0; r < c.rows; ++r) {
    float* row = c.row<float>(r);
    const Bias* b = bias.row<Bias>(0);
    if (beta == 0.0f) {
      for (Index i = 0; i < c.cols; ++i) row[i] = to_float(b[i]);
    } else {
      for (Index i = 0; i < c.cols; ++i) row[i] = beta * row[i] + to_float(b[i]);
    }
  }
}

void scale(float beta, Matrix c) {
  for (Index r = 0; r < c.rows; ++r) {
    float* row = c.row<float>(r);
    for (Index i = 0; i < c.cols; ++i) row[i] = beta == 0.0f ? 0.0f : beta * row[i];
  }
}

// Without an epilogue, its addend in C.
dnnl_status_t sgemm(const Gemm& args) {
  const ProductExtents e = extents_of(args);
  float beta = args.beta;
  if (args.bias.count() != 0) {
    args.bias.dtype == DType::f32 ? begin<float>(beta, args.bias, args.c) : begin<bf16>(beta, args.bias, args.c);
    beta = 1.0f;
  }
  if (e.k == 0) {
    scale(beta, args.c);
    return dnnl_success;
  }
  return dnnl_sgemm(args.transpose_a ? 'T' : 'N', args.transpose_b ? 'T' : 'N', e.m, e.n, e.k, args.alpha,
                    args.a.row<float>(0), args.a.stride, args.b.row<float>(0), args.b.stride, beta,
                    args.c.row<float>(0), args.c.stride);
}

Gemm part_of(const Gemm& args, const Parts& parts, Index index) {
  const Index row = index % parts.row_count * parts.rows, col = index / parts.row_count * parts.cols;
  const Index rows = std::min(parts.rows, args.c.rows - row), cols = std::min(parts.cols, args.c.cols - col);
  const auto within_c = [&](auto m) { return m.empty() ? m : m.row_range(row, rows).col_range(col, cols); };
  Gemm part = args;
  part.a = args.transpose_a ? args.a.col_range(row, rows) : args.a.row_range(row, rows);
  part.b = args.transpose_b ? args.b.row_range(col, cols) : args.b.col_range(col, cols);
  part.c = within_c(args.c);
  part.addend = within_c(args.addend);
  part.aux = within_c(args.aux);
  part.aux_in = within_c(args.aux_in);
  if (args.bias.count() != 0) part.bias = args.bias.col_range(col, cols);
  return part;
}

// With its epilogue, which finds a part's z in the second cache still.
dnnl_status_t multiply(const Gemm& args) {
  dnnl_status_t status = dnnl_success;
  with_epilogue(args, [&](const Gemm& sum) { status = sgemm(sum); });
  return status;
}

}  // namespace

void gemm_plain(const Gemm& args) {
  const ProductExtents e = extents_of(args);
  dnnl_status_t status = dnnl_success;
  // The gradient of a dense weight reads both operands across their rows; the library shares that work between its
  // threads, which gains 15 %, and has no reason to share k when C is this large.
  if (args.transpose_a && !args.transpose_b && e.m >= 512 && e.n >= 512) {
    status = multiply(args);
  } else {
    const Parts parts = parts_of(e, omp_get_max_threads());
#pragma omp parallel for schedule(dynamic)
    for (Index i = 0; i < parts.count(); ++i) {
      const dnnl_status_t result = multiply(part_of(args, parts, i));
      if (result != dnnl_success) {
#pragma omp atomic write
        status = result;
      }
    }
  }
  if (status != dnnl_success) {
    fail(Failure::other, text("oneDNN: sgemm of ", e.m, "x", e.n, "x", e.k, " failed with status ", status));
  }
}

}  // namespace lorashard::kernels
