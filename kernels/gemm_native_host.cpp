// bf16 operands that oneDNN multiplies as such, with fp32 sums.
#include <algorithm>
#include <dnnl.hpp>
#include <unordered_map>

#include "kernels/gemm_host.hpp"

namespace lorashard::kernels {
namespace {

// op(m) as a oneDNN descriptor.
dnnl::memory::desc describe(const ConstMatrix& m, bool transposed) {
  const auto type = m.dtype == DType::f32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
  if (transposed) return {{m.cols, m.rows}, type, dnnl::memory::dims{1, m.stride}};
  return {{m.rows, m.cols}, type, dnnl::memory::dims{m.stride, 1}};
}

dnnl::primitive_attr attributes_of(const Gemm& args) {
  dnnl::primitive_attr attributes;
  if (args.alpha != 1.0f) attributes.set_output_scales(0, {args.alpha});
  if (args.beta != 0.0f) {
    dnnl::post_ops sum;
    sum.append_sum(args.beta);
    attributes.set_post_ops(sum);
  }
  return attributes;
}

// AMX multiplies k in steps of 32, and oneDNN leaves it for plain AVX512 up to k = 16 and for a slow remainder above
// 32. With zeros up to the next 32, y += u B^T takes 0.35 ms in place of 0.83 ms at k = 16 (one core, 1024 x 2304)
// and 0.40 ms in place of 0.71 ms at k = 48.
Index padded_depth(const Gemm& args) {
  const ProductExtents e = extents_of(args);
  const bool pays = has_amx() && e.k > 4 && e.k < 64 && e.m >= 64 && e.n >= 64;
  return pays ? (e.k + 31) / 32 * 32 : e.k;
}

// A copy of m with zero rows and columns up to the given extents.
ConstMatrix padded(ConstMatrix m, Index rows, Index cols, std::byte* to) {
  const Matrix copy(to, DType::bf16, rows, cols, cols);
#pragma omp parallel for
  for (Index r = 0; r < rows; ++r) {
    const Index taken = r < m.rows ? m.cols : 0;
    bf16* row = copy.row<bf16>(r);
    if (taken > 0) std::copy_n(m.row<bf16>(r), taken, row);
    std::fill(row + taken, row + cols, bf16{0});
  }
  return copy;
}

// The library keeps the primitives of the latest 1024 shapes; finding one again takes about 2 us.
void multiply_natively(const Gemm& args) {
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const auto a = describe(args.a, args.transpose_a), b = describe(args.b, args.transpose_b),
             c = describe(args.c, false);
  const bool has_bias = args.bias.count() != 0;
  const auto bias = has_bias ? describe(args.bias, false) : dnnl::memory::desc();
  const auto memory = [&](const dnnl::memory::desc& description, const std::byte* data) {
    return dnnl::memory(description, engine, const_cast<std::byte*>(data));
  };
  try {
    const dnnl::matmul product({dnnl::matmul::desc(a, b, bias, c), attributes_of(args), engine});
    std::unordered_map<int, dnnl::memory> operands = {{DNNL_ARG_SRC, memory(a, args.a.data)},
                                                      {DNNL_ARG_WEIGHTS, memory(b, args.b.data)},
                                                      {DNNL_ARG_DST, memory(c, args.c.data)}};
    if (has_bias) operands.emplace(DNNL_ARG_BIAS, memory(bias, args.bias.data));
    dnnl::stream stream(engine);
    product.execute(stream, operands);
    stream.wait();
  } catch (const dnnl::error& error) {
    const ProductExtents e = extents_of(args);
    fail(Failure::other, text("oneDNN: bf16 product of ", e.m, "x", e.n, "x", e.k, ": ", error.what()));
  }
}

}  // namespace

Index gemm_native_scratch(const Gemm& args) {
  const ProductExtents e = extents_of(args);
  const Index depth = padded_depth(args);
  return depth == e.k ? 0 : (e.m + e.n) * depth * size_bytes(DType::bf16);
}

void gemm_native(const Gemm& args, std::byte* scratch) {
  const ProductExtents e = extents_of(args);
  const Index depth = padded_depth(args);
  if (depth == e.k) return multiply_natively(args);
  Gemm deeper = args;
  deeper.a = args.transpose_a ? padded(args.a, depth, e.m, scratch) : padded(args.a, e.m, depth, scratch);
  scratch += deeper.a.bytes();
  deeper.b = args.transpose_b ? padded(args.b, e.n, depth, scratch) : padded(args.b, depth, e.n, scratch);
  multiply_natively(deeper);
}

}  // namespace lorashard::kernels
