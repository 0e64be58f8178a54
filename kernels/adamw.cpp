#include "kernels/adamw.hpp"

#include "kernels/cuda_operations.hpp"
#include "kernels/host_operations.hpp"
#include "kernels/operation.hpp"

namespace lorashard::kernels {

void adamw(Device& device, const AdamW& args) {
  const Index count = args.weight.cols;
  expect_f32("adamw", "weight", args.weight, args.weight.rows == 0 ? 0 : 1, count);
  expect_f32("adamw", "first_moment", args.first_moment, args.weight.rows, count);
  expect_f32("adamw", "second_moment", args.second_moment, args.weight.rows, count);
  expect_f32("adamw", "gradient", args.gradient, args.weight.rows, count);
  if (!args.low_precision.empty()) {
    expect_extents("adamw", "low_precision", args.low_precision, args.weight.rows, count);
    expect_dtype("adamw", "low_precision", args.low_precision, DType::bf16);
  }
  if (!args.control.empty()) expect_f64("adamw", "control", args.control, 1, StepControl::columns);
  if (args.step < 1) fail(Failure::configuration, text("adamw: step is ", args.step, ", expected 1 or more"));
  const double bytes = 2 * moved_bytes(args.weight, args.first_moment, args.second_moment) +
                       moved_bytes(args.gradient, args.low_precision);
  const Operation run(device, Phase::optimizer, {16.0 * args.weight.count(), bytes});
  if (run.host()) adamw_host(args);
  if (run.cuda()) adamw_cuda(device, args);
}

void add_sum_of_squares(Device& device, ConstMatrix m, Matrix total) {
  expect_dtype("add_sum_of_squares", "m", m, DType::f32);
  expect_f64("add_sum_of_squares", "total", total, 1, 1);
  const Operation run(device, Phase::optimizer, {2.0 * m.count(), moved_bytes(m, total, total)});
  const Buffer scratch = cuda_scratch(device, sum_cuda_scratch(m));
  if (run.host()) add_sum_of_squares_host(m, total);
  if (run.cuda()) add_sum_of_squares_cuda(device, m, total, scratch.data());
}

void finish_step(Device& device, const StepOutcome& args) {
  expect_f64("finish_step", "totals", args.totals, args.totals.rows, 2);
  expect_f64("finish_step", "control", args.control, 1, StepControl::columns);
  const Operation run(device, Phase::optimizer, {2.0 * args.totals.count(), moved_bytes(args.totals, args.control)});
  if (run.host()) finish_step_host(args);
  if (run.cuda()) finish_step_cuda(device, args);
}

}  // namespace lorashard::kernels
