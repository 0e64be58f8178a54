// What a product on the cuda device needs as scratch: a plain file, since a plan counts it in a build without CUDA.
//
// cuBLASLt multiplies two operands of one type. Operands of two types are multiplied in bf16, and so are two f32 ones
// whose result is bf16: the f32 operand is rounded into scratch first. A bias of another type than the result is
// converted there too.
#include "kernels/cuda_operations.hpp"
#include "kernels/gemm_cuda_scratch.hpp"

namespace lorashard::kernels {
namespace {

// A copy's rows begin at 16 bytes, without which cuBLASLt has slow algorithms only, and copies at the 256 that it
// likes.
constexpr Index kRowElements = 16 / size_bytes(DType::bf16);
constexpr Index kAlignment = 256;
Index rounded_up(Index n, Index unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

ProductCopies product_copies(const Gemm& args, std::byte* scratch) {
  ProductCopies copies;
  const auto copy_of = [&](const ConstMatrix& m, DType dtype) -> Matrix {
    const Index stride = rounded_up(m.cols, kRowElements);
    std::byte* data = scratch == nullptr ? nullptr : scratch + copies.bytes;
    copies.bytes += rounded_up(m.rows * stride * size_bytes(dtype), kAlignment);
    return {data, dtype, m.rows, m.cols, stride};
  };
  const bool low = args.a.dtype == DType::bf16 || args.b.dtype == DType::bf16 || args.c.dtype == DType::bf16;
  if (low && args.a.dtype == DType::f32) copies.a = copy_of(args.a, DType::bf16);
  if (low && args.b.dtype == DType::f32) copies.b = copy_of(args.b, DType::bf16);
  if (!args.bias.empty() && args.bias.dtype != args.c.dtype) copies.bias = copy_of(args.bias, args.c.dtype);
  return copies;
}

Index gemm_cuda_scratch(const Gemm& args) { return product_copies(args, nullptr).bytes; }

}  // namespace lorashard::kernels
