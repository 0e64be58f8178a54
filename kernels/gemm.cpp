#include "kernels/gemm.hpp"

#include "kernels/cuda_operations.hpp"
#include "kernels/gemm_epilogue.hpp"
#include "kernels/gemm_host.hpp"
#include "kernels/operation.hpp"

namespace lorashard::kernels {
namespace {

// The name of an operand beside C, and its view.
struct Companion {
  const char* name;
  ConstMatrix view;
};

void expect_like_c(const Companion& m, const Gemm& args) {
  if (m.view.empty()) return;
  expect_extents("gemm", m.name, m.view, args.c.rows, args.c.cols);
  expect_dtype("gemm", m.name, m.view, args.c.dtype);
}

// Views of meta memory are all null and begin nowhere.
bool begin_together(const ConstMatrix& x, const ConstMatrix& y) { return x.data != nullptr && x.data == y.data; }

void expect_apart_from_c(const Companion& m, const Gemm& args) {
  if (begin_together(m.view, args.c))
    fail(Failure::configuration, text("gemm: ", m.name, " is C, expected other memory"));
}

void expect_apart_or_same(const Companion& addend, const Companion& m) {
  if (!begin_together(addend.view, m.view) || addend.view.stride == m.view.stride) return;
  fail(Failure::configuration, text("gemm: ", addend.name, " begins where ", m.name, " does, with stride ",
                                    addend.view.stride, ", expected ", m.view.stride));
}

void check_companions(const Gemm& args) {
  const Companion addend{"addend", args.addend}, aux{"aux", args.aux}, aux_in{"aux_in", args.aux_in};
  for (const Companion& m : {addend, aux, aux_in}) expect_like_c(m, args);
  if (args.epilogue == Epilogue::gelu_backward && !args.c.empty()) {
    expect_extents("gemm", "aux_in", args.aux_in, args.c.rows, args.c.cols);
  }
  expect_apart_from_c(aux, args);
  expect_apart_from_c(aux_in, args);
  expect_apart_or_same(addend, {"C", args.c});
  expect_apart_or_same(addend, aux);
}

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
  check_companions(args);
  return {m, n, k};
}

double epilogue_flops(Epilogue epilogue) {  // of an element
  return epilogue == Epilogue::gelu ? kGeluFlops : epilogue == Epilogue::gelu_backward ? kGeluBackwardFlops : 0.0;
}

void record(Profile& profile, const Gemm& args, const ProductExtents& e) {
  const double flops = 2.0 * e.m * e.n * e.k + epilogue_flops(args.epilogue) * static_cast<double>(args.c.count());
  const ConstMatrix aux = args.epilogue == Epilogue::gelu ? ConstMatrix(args.aux) : args.aux_in;
  const bool both = args.a.dtype == DType::bf16 && args.b.dtype == DType::bf16;
  const ProductShape shape{e.m, e.n, e.k, both ? DType::bf16 : DType::f32};
  profile.record(args.phase, {flops, moved_bytes(args.a, args.b, args.bias, addend_of(args), args.c, aux)}, &shape);
}

}  // namespace

void gemm(Device& device, const Gemm& args) {
  const ProductExtents e = check(args);
  if (e.m == 0 || e.n == 0) return;
  const PhaseScope scope(device.profile(), args.phase);
  record(device.profile(), args, e);
  const bool cuda = device.target() == DeviceKind::cuda;
  const Buffer scratch(device, Category::workspace, cuda ? gemm_cuda_scratch(args) : host_scratch_bytes(args));
  if (device.kind() == DeviceKind::host) gemm_host(args, scratch.data());
  if (device.kind() == DeviceKind::cuda) gemm_cuda(device, args, scratch.data());
}

Weight::Weight(Device&, Tensor plain)
    : storage_(std::move(plain)), out_(storage_.rows()), in_(storage_.cols()), dtype_(storage_.dtype()) {}

void multiply(Device& device, const WeightForward& args) {
  Gemm product{.a = args.x, .b = args.weight.storage_.view(), .c = args.y};
  product.transpose_b = true;
  product.beta = args.addend.empty() ? 0.0f : 1.0f;
  product.addend = args.addend;
  product.bias = args.bias;
  product.epilogue = args.epilogue;
  product.aux = args.aux;
  gemm(device, product);
}

void multiply(Device& device, const WeightBackward& args) {
  Gemm product{.a = args.dy, .b = args.weight.storage_.view(), .c = args.dx};
  product.beta = args.addend.empty() ? 0.0f : 1.0f;
  product.addend = args.addend;
  product.epilogue = args.epilogue;
  product.aux_in = args.aux_in;
  gemm(device, product);
}

}  // namespace lorashard::kernels
