#include "kernels/gemm.hpp"

#include "kernels/gemm_host.hpp"

namespace lorashard::kernels {
namespace {

ProductExtents check(const Gemm& args) {
  const Index m = args.transpose_a ? args.a.cols : args.a.rows, k = args.transpose_a ? args.a.rows : args.a.cols;
  const Index n = args.transpose_b ? args.b.rows : args.b.cols, inner = args.transpose_b ? args.b.cols : args.b.rows;
  const auto operands = [&] {
    return text("op(A) is ", m, "x", k, ", op(B) is ", inner, "x", n, ", C is ", extents(args.c));
  };
  if (k != inner) fail(Failure::configuration, text("gemm: ", operands(), ": inner extents differ"));
  if (args.c.rows != m || args.c.cols != n) {
    fail(Failure::configuration, text("gemm: ", operands(), ": outer extents differ"));
  }
  if (args.bias.count() != 0 && (args.bias.rows != 1 || args.bias.cols != n)) {
    fail(Failure::configuration, text("gemm: bias is ", extents(args.bias), ", expected 1x", n));
  }
  return {m, n, k};
}

void record(Profile& profile, const Gemm& args, const ProductExtents& e) {
  const double c_bytes = static_cast<double>(args.c.bytes()) * (args.beta != 0.0f ? 2 : 1);
  const double bytes = static_cast<double>(args.a.bytes() + args.b.bytes() + args.bias.bytes()) + c_bytes;
  profile.record(args.phase, {2.0 * e.m * e.n * e.k, bytes});
  if (args.phase == Phase::matmul) {
    const bool both = args.a.dtype == DType::bf16 && args.b.dtype == DType::bf16;
    profile.record(ProductShape{e.m, e.n, e.k, both ? DType::bf16 : DType::f32});
  }
}

}  // namespace

void gemm(Device& device, const Gemm& args) {
  const ProductExtents e = check(args);
  if (e.m == 0 || e.n == 0) return;
  const PhaseScope scope(device.profile(), args.phase);
  record(device.profile(), args, e);
  const Buffer scratch(device, Category::workspace, host_scratch_bytes(args));
  if (!device.meta()) gemm_host(args, scratch.data());
}

Weight::Weight(Device&, Tensor plain)
    : storage_(std::move(plain)), out_(storage_.rows()), in_(storage_.cols()), dtype_(storage_.dtype()) {}

void multiply(Device& device, const WeightForward& args) {
  Gemm product{.a = args.x, .b = args.weight.storage_.view(), .c = args.y};
  product.transpose_b = true;
  product.bias = args.bias;
  gemm(device, product);
}

void multiply(Device& device, const WeightBackward& args) {
  gemm(device, {.a = args.dy, .b = args.weight.storage_.view(), .c = args.dx});
}

}  // namespace lorashard::kernels
