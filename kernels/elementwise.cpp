#include "kernels/elementwise.hpp"

#include "kernels/cuda_operations.hpp"
#include "kernels/host_operations.hpp"
#include "kernels/operation.hpp"

namespace lorashard::kernels {
namespace {

void expect_mask(const char* operation, const DropoutMask& mask, const ConstMatrix& x) {
  if (!(mask.probability >= 0.0f && mask.probability < 1.0f)) {
    fail(Failure::configuration, text(operation, ": probability is ", mask.probability, ", expected 0 <= p < 1"));
  }
  if (mask.first_col < 0 || mask.first_row < 0 || mask.first_col + x.cols > mask.global_cols) {
    fail(Failure::configuration, text(operation, ": x is ", extents(x), " at row ", mask.first_row, ", column ",
                                      mask.first_col, " of a matrix with ", mask.global_cols, " columns"));
  }
}

}  // namespace

void fill(Device& device, Matrix m, float value) {
  if (m.dtype == DType::f64) {
    if (value != 0.0f) fail(Failure::other, text("fill: m is fp64, value is ", value, ", expected 0"));
    m = {m.data, DType::f32, m.rows, 2 * m.cols, 2 * m.stride};  // zeros are zeros
  }
  const Operation run(device, Phase::elementwise, {0, moved_bytes(m)});
  if (run.host()) fill_host(m, value);
  if (run.cuda()) fill_cuda(device, m, value);
}

void copy(Device& device, ConstMatrix from, Matrix to) {
  expect_extents("copy", "to", to, from.rows, from.cols);
  const Operation run(device, Phase::elementwise, {0, moved_bytes(from, to)});
  if (run.host()) copy_host(from, to);
  if (run.cuda()) copy_cuda(device, from, to);
}

void add(Device& device, ConstMatrix x, Matrix y, float scale) {
  expect_extents("add", "y", y, x.rows, x.cols);
  const Operation run(device, Phase::elementwise, {2.0 * x.count(), moved_bytes(x, y, y)});
  if (run.host()) add_host(x, y, scale);
  if (run.cuda()) add_cuda(device, x, y, scale);
}

void add_residual(Device& device, ConstMatrix x, ConstMatrix residual, ConstMatrix bias, Matrix y) {
  expect_extents("add_residual", "residual", residual, x.rows, x.cols);
  expect_extents("add_residual", "y", y, x.rows, x.cols);
  if (!bias.empty()) expect_extents("add_residual", "bias", bias, 1, x.cols);
  const double flops = (bias.empty() ? 1.0 : 2.0) * x.count();
  const Operation run(device, Phase::elementwise, {flops, moved_bytes(x, residual, bias, y)});
  if (run.host()) add_residual_host(x, residual, bias, y);
  if (run.cuda()) add_residual_cuda(device, x, residual, bias, y);
}

void gelu(Device& device, ConstMatrix x, Matrix y) {
  expect_extents("gelu", "y", y, x.rows, x.cols);
  const Operation run(device, Phase::elementwise, {kGeluFlops * x.count(), moved_bytes(x, y)});
  if (run.host()) gelu_host(x, y);
  if (run.cuda()) gelu_cuda(device, x, y);
}

void gelu_backward(Device& device, ConstMatrix x, ConstMatrix dy, Matrix dx) {
  expect_extents("gelu_backward", "dy", dy, x.rows, x.cols);
  expect_extents("gelu_backward", "dx", dx, x.rows, x.cols);
  const Operation run(device, Phase::elementwise, {kGeluBackwardFlops * x.count(), moved_bytes(x, dy, dx)});
  if (run.host()) gelu_backward_host(x, dy, dx);
  if (run.cuda()) gelu_backward_cuda(device, x, dy, dx);
}

void swiglu(Device& device, ConstMatrix gate_up, Matrix y) {
  expect_extents("swiglu", "gate_up", gate_up, y.rows, 2 * y.cols);
  const Operation run(device, Phase::elementwise, {kSwigluFlops * y.count(), moved_bytes(gate_up, y)});
  if (run.host()) swiglu_host(gate_up, y);
  if (run.cuda()) swiglu_cuda(device, gate_up, y);
}

void swiglu_backward(Device& device, ConstMatrix gate_up, ConstMatrix dy, Matrix dgate_up) {
  expect_extents("swiglu_backward", "gate_up", gate_up, dy.rows, 2 * dy.cols);
  expect_extents("swiglu_backward", "dgate_up", dgate_up, dy.rows, 2 * dy.cols);
  const Operation run(device, Phase::elementwise,
                      {kSwigluBackwardFlops * dy.count(), moved_bytes(gate_up, dy, dgate_up)});
  if (run.host()) swiglu_backward_host(gate_up, dy, dgate_up);
  if (run.cuda()) swiglu_backward_cuda(device, gate_up, dy, dgate_up);
}

void bias_gradient(Device& device, ConstMatrix dy, Matrix db) {
  expect_f32("bias_gradient", "db", db, 1, dy.cols);
  const Operation run(device, Phase::elementwise, {1.0 * dy.count(), moved_bytes(dy, db, db)});
  const Buffer scratch = cuda_scratch(device, bias_gradient_cuda_scratch(dy));
  if (run.host()) bias_gradient_host(dy, db);
  if (run.cuda()) bias_gradient_cuda(device, dy, db, scratch.data());
}

void dropout(Device& device, const DropoutMask& mask, ConstMatrix x, Matrix y) {
  expect_mask("dropout", mask, x);
  expect_extents("dropout", "y", y, x.rows, x.cols);
  const Operation run(device, Phase::elementwise, {1.0 * x.count(), moved_bytes(x, y)});
  if (run.host()) dropout_host(mask, x, y);
  if (run.cuda()) dropout_cuda(device, mask, x, y);
}

void dropout_add(Device& device, const DropoutMask& mask, ConstMatrix x, Matrix y) {
  expect_mask("dropout_add", mask, x);
  expect_extents("dropout_add", "y", y, x.rows, x.cols);
  const Operation run(device, Phase::elementwise, {2.0 * x.count(), moved_bytes(x, y, y)});
  if (run.host()) dropout_add_host(mask, x, y);
  if (run.cuda()) dropout_add_cuda(device, mask, x, y);
}

void fill_normal(Device& device, const NormalFill& args, Matrix m) {
  if (args.first_col < 0 || args.first_row < 0 || args.first_col + m.cols > args.global_cols) {
    fail(Failure::configuration, text("fill_normal: m is ", extents(m), " at row ", args.first_row, ", column ",
                                      args.first_col, " of a matrix with ", args.global_cols, " columns"));
  }
  const Operation run(device, Phase::elementwise, {0, moved_bytes(m)});
  if (run.host()) fill_normal_host(args, m);
  if (run.cuda()) fill_normal_cuda(device, args, m);
}

}  // namespace lorashard::kernels
