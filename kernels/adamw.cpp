#include "kernels/adamw.hpp"

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
  if (args.step < 1) fail(Failure::configuration, text("adamw: step is ", args.step, ", expected 1 or more"));
  const double bytes = 2 * moved_bytes(args.weight, args.first_moment, args.second_moment) +
                       moved_bytes(args.gradient, args.low_precision);
  const Operation run(device, Phase::optimizer, {16.0 * args.weight.count(), bytes});
  if (run.host()) adamw_host(args);
}

double sum_of_squares(Device& device, ConstMatrix m) {
  expect_dtype("sum_of_squares", "m", m, DType::f32);
  const Operation run(device, Phase::optimizer, {2.0 * m.count(), moved_bytes(m)});
  return run.host() ? sum_of_squares_host(m) : 0.0;
}

}  // namespace lorashard::kernels
