// Products with bf16 operands that are not multiplied as such, or with a bf16 result: fp32 panels beside the operands.
#include <algorithm>

#include "kernels/gemm_host.hpp"
#include "kernels/numbers.hpp"

namespace lorashard::kernels {
namespace {

// The product is cut into parts of rows x cols x depth, which keeps the panels below 20 MiB for any shape. Widening
// an element costs a few bytes of traffic, little beside the thousand products it then takes part in.
struct Panels {
  explicit Panels(const Gemm& args) {
    const ProductExtents e = extents_of(args);
    rows = std::min<Index>(e.m, 1024);
    cols = std::min<Index>(e.n, 1024);
    depth = std::min<Index>(e.k, 2048);
    a_count = args.a.dtype == DType::bf16 ? rows * depth : 0;
    b_count = args.b.dtype == DType::bf16 ? depth * cols : 0;
    c_count = args.c.dtype == DType::bf16 ? rows * cols : 0;
  }
  Index rows, cols, depth;
  Index a_count, b_count, c_count;  // floats; zero where the operand is fp32 already
};

template <class To, class From>
void convert(ConstMatrix from, Matrix to) {
#pragma omp parallel for
  for (Index r = 0; r < from.rows; ++r) {
    const From* source = from.row<From>(r);
    To* target = to.row<To>(r);
    for (Index c = 0; c < from.cols; ++c) store(target[c], to_float(source[c]));
  }
}

// The part of an operand that covers rows [row, row + rows) and columns [col, col + cols) of its op().
ConstMatrix part(ConstMatrix m, bool transposed, Index row, Index rows, Index col, Index cols) {
  if (transposed) return m.row_range(col, cols).col_range(row, rows);
  return m.row_range(row, rows).col_range(col, cols);
}

ConstMatrix widened(ConstMatrix m, float* panel) {
  if (m.dtype == DType::f32) return m;
  const Matrix wide = view(panel, m.rows, m.cols);
  convert<float, bf16>(m, wide);
  return wide;
}

class PanelProduct {
 public:
  PanelProduct(const Gemm& args, std::byte* scratch)
      : args_(args),
        panels_(args),
        e_(extents_of(args)),
        a_(reinterpret_cast<float*>(scratch)),
        b_(a_ + panels_.a_count),
        c_(b_ + panels_.b_count) {}

  void run() const {
    for (Index row = 0; row < e_.m; row += panels_.rows) {
      for (Index col = 0; col < e_.n; col += panels_.cols) tile(row, col);
    }
  }

 private:
  void tile(Index row, Index col) const {
    const Index rows = std::min(panels_.rows, e_.m - row), cols = std::min(panels_.cols, e_.n - col);
    const Matrix out = args_.c.row_range(row, rows).col_range(col, cols);
    const bool rounds = out.dtype == DType::bf16;
    Gemm step = args_;
    step.c = rounds ? view(c_, rows, cols) : out;
    if (rounds && args_.beta != 0.0f) convert<float, bf16>(out, step.c);
    if (args_.bias.count() != 0) step.bias = args_.bias.col_range(col, cols);
    Index first = 0;
    do {  // once at least: C = beta C + bias holds for an empty sum too
      const Index depth = std::min(panels_.depth, e_.k - first);
      step.a = widened(part(args_.a, args_.transpose_a, row, rows, first, depth), a_);
      step.b = widened(part(args_.b, args_.transpose_b, first, depth, col, cols), b_);
      gemm_plain(step);
      step.beta = 1.0f;
      step.bias = {};
      first += depth;
    } while (first < e_.k);
    if (rounds) convert<bf16, float>(step.c, out);
  }

  const Gemm& args_;
  Panels panels_;
  ProductExtents e_;
  float *a_, *b_, *c_;
};

}  // namespace

Index gemm_panels_scratch(const Gemm& args) {
  const Panels panels(args);
  return (panels.a_count + panels.b_count + panels.c_count) * size_bytes(DType::f32);
}

void gemm_panels(const Gemm& args, std::byte* scratch) { PanelProduct(args, scratch).run(); }

}  // namespace lorashard::kernels
