#include "kernels/gemm_host.hpp"

#include <dnnl.hpp>

#include <algorithm>
#include <unordered_map>

#include "kernels/host_device.hpp"
#include "kernels/numbers.hpp"

namespace lorashard::kernels {
namespace {

// Extents of op(A) (m, k) and op(B) (k, n).
struct Extents {
  Index m, n, k;
};
Extents extents_of(const Gemm& args) {
  return {args.c.rows, args.c.cols, args.transpose_a ? args.a.rows : args.a.cols};
}

template <class To, class From>
void convert(ConstMatrix from, Matrix to) {
#pragma omp parallel for
  for (Index r = 0; r < from.rows; ++r) {
    const From* source = from.row<From>(r);
    To* target = to.row<To>(r);
    for (Index c = 0; c < from.cols; ++c) store(target[c], to_float(source[c]));
  }
}

void widen(ConstMatrix from, Matrix to) {
  if (from.dtype == DType::bf16) return convert<float, bf16>(from, to);
  convert<float, float>(from, to);
}

void round(ConstMatrix from, Matrix to) { convert<bf16, float>(from, to); }

// C = beta C + bias.
template <class Bias>
void begin(float beta, ConstMatrix bias, Matrix c) {
#pragma omp parallel for
  for (Index r = 0; r < c.rows; ++r) {
    float* row = c.row<float>(r);
    const Bias* b = bias.row<Bias>(0);
    for (Index i = 0; i < c.cols; ++i) row[i] = (beta == 0.0f ? 0.0f : beta * row[i]) + (b ? to_float(b[i]) : 0.0f);
  }
}

// All f32. sgemm is the fastest product in oneDNN 2.6 for every layout: beside its matmul primitive it is level on
// AVX2, and on AVX512 1.1 to 3 times as fast (the primitive's blocked kernels slow down on long row strides).
void sgemm(const Gemm& args) {
  const Extents e = extents_of(args);
  float beta = args.beta;
  if (args.bias.count() != 0 || e.k == 0) {
    args.bias.dtype == DType::bf16 ? begin<bf16>(beta, args.bias, args.c) : begin<float>(beta, args.bias, args.c);
    beta = 1.0f;
  }
  if (e.k == 0) return;
  const auto status = dnnl_sgemm(args.transpose_a ? 'T' : 'N', args.transpose_b ? 'T' : 'N', e.m, e.n, e.k, args.alpha,
                                 args.a.row<float>(0), args.a.stride, args.b.row<float>(0), args.b.stride, beta,
                                 args.c.row<float>(0), args.c.stride);
  if (status != dnnl_success) {
    fail(Failure::other, text("oneDNN: sgemm of ", e.m, "x", e.n, "x", e.k, " failed with status ", status));
  }
}

// The part of an operand that covers rows [row, row + rows) and columns [col, col + cols) of its op().
ConstMatrix part(ConstMatrix m, bool transposed, Index row, Index rows, Index col, Index cols) {
  if (transposed) return m.row_range(col, cols).col_range(row, rows);
  return m.row_range(row, rows).col_range(col, cols);
}

class PanelProduct {
 public:
  PanelProduct(const Gemm& args, const Panels& panels, std::byte* data)
      : args_(args), panels_(panels), e_(extents_of(args)) {
    a_ = reinterpret_cast<float*>(data);
    b_ = a_ + panels.a_count();
    c_ = b_ + panels.b_count();
  }

  void run() const {
    for (Index row = 0; row < e_.m; row += panels_.rows) {
      for (Index col = 0; col < e_.n; col += panels_.cols) tile(row, col);
    }
  }

 private:
  void tile(Index row, Index col) const {
    const Index rows = std::min(panels_.rows, e_.m - row), cols = std::min(panels_.cols, e_.n - col);
    const Matrix out = args_.c.row_range(row, rows).col_range(col, cols);
    const Matrix sum = panels_.round_c ? view(c_, rows, cols) : out;
    if (panels_.round_c && args_.beta != 0.0f) widen(out, sum);
    Gemm step = args_;
    step.c = sum;
    if (args_.bias.count() != 0) step.bias = args_.bias.col_range(col, cols);
    for (Index first = 0; first == 0 || first < e_.k; first += panels_.depth) {
      const Index depth = std::min(panels_.depth, e_.k - first);
      step.a = widened(panels_.widen_a, part(args_.a, args_.transpose_a, row, rows, first, depth), a_);
      step.b = widened(panels_.widen_b, part(args_.b, args_.transpose_b, first, depth, col, cols), b_);
      sgemm(step);
      step.beta = 1.0f;
      step.bias = {};
    }
    if (panels_.round_c) round(sum, out);
  }

  static ConstMatrix widened(bool wanted, ConstMatrix m, float* panel) {
    if (!wanted) return m;
    const Matrix wide = view(panel, m.rows, m.cols);
    widen(m, wide);
    return wide;
  }

  const Gemm& args_;
  const Panels& panels_;
  Extents e_;
  float *a_, *b_, *c_;
};

dnnl::memory::desc describe(const ConstMatrix& m, bool transposed) {
  const auto type = m.dtype == DType::f32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
  const Index stride = std::max<Index>(m.stride, 1);
  if (transposed) return {{m.cols, m.rows}, type, dnnl::memory::dims{1, stride}};
  return {{m.rows, m.cols}, type, dnnl::memory::dims{stride, 1}};
}

void native(const Gemm& args) {
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  dnnl::primitive_attr attributes;
  if (args.alpha != 1.0f) attributes.set_output_scales(0, {args.alpha});
  if (args.beta != 0.0f) {
    dnnl::post_ops sum;
    sum.append_sum(args.beta);
    attributes.set_post_ops(sum);
  }
  const auto a = describe(args.a, args.transpose_a), b = describe(args.b, args.transpose_b), c = describe(args.c, false);
  const auto bias = args.bias.count() != 0 ? describe(args.bias, false) : dnnl::memory::desc();
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, bias, c), attributes, engine);
  const auto memory = [&](const dnnl::memory::desc& desc, const std::byte* data) {
    return dnnl::memory(desc, engine, const_cast<std::byte*>(data));
  };
  std::unordered_map<int, dnnl::memory> operands = {{DNNL_ARG_SRC, memory(a, args.a.data)},
                                                    {DNNL_ARG_WEIGHTS, memory(b, args.b.data)},
                                                    {DNNL_ARG_DST, memory(c, args.c.data)}};
  if (args.bias.count() != 0) operands.emplace(DNNL_ARG_BIAS, memory(bias, args.bias.data));
  dnnl::matmul(description).execute(stream, operands);
}

// Instruction sets are sets of bits, some of which (AVX2-VNNI) stand above the AVX512 ones.
bool supports(dnnl::cpu_isa isa) {
  const auto wanted = static_cast<unsigned>(isa);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & wanted) == wanted;
}

// oneDNN scales product and bias together, so alpha beside a bias takes the other way.
bool multiplies_natively(const Gemm& args) {
  if (args.a.empty() || (args.alpha != 1.0f && args.bias.count() != 0)) return false;
  return args.a.dtype == DType::bf16 && args.b.dtype == DType::bf16 && native_bf16();
}

}  // namespace

bool native_bf16() { return supports(dnnl::cpu_isa::avx512_core_bf16); }

std::string host_bf16_path() {
  if (!native_bf16()) return "fp32 (widened)";
  return supports(dnnl::cpu_isa::avx512_core_amx) ? "bf16 (AMX)" : "bf16 (AVX512-BF16)";
}

Panels panels_of(const Gemm& args) {
  Panels panels;
  const Extents e = extents_of(args);
  panels.rows = e.m;
  panels.cols = e.n;
  panels.depth = std::max<Index>(e.k, 1);
  if (multiplies_natively(args)) return panels;
  panels.widen_a = args.a.dtype == DType::bf16;
  panels.widen_b = args.b.dtype == DType::bf16;
  panels.round_c = args.c.dtype == DType::bf16;
  if (panels.bytes() == 0) return panels;
  // Widening an element costs a few bytes of traffic and is worth it when some hundred products follow.
  panels.rows = std::min<Index>(panels.rows, 1024);
  panels.cols = std::min<Index>(panels.cols, 1024);
  panels.depth = std::min<Index>(panels.depth, 2048);
  return panels;
}

void gemm_host(Device&, const Gemm& args, std::byte* data) {
  if (multiplies_natively(args)) return native(args);
  const Panels panels = panels_of(args);
  if (panels.bytes() == 0) return sgemm(args);
  PanelProduct(args, panels, data).run();
}

}  // namespace lorashard::kernels
