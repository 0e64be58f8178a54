#include "kernels/cuda_operations.hpp"
#include "kernels/host_operations.hpp"
#include "kernels/operation.hpp"

namespace lorashard::kernels {
namespace {

// Groups of a row.
Index expect_groups(const char* operation, const ConstMatrix& x, const ConstMatrix& weight) {
  if (weight.rows != 1 || weight.cols < 1 || x.cols % weight.cols != 0) {
    fail(Failure::configuration, text(operation, ": weight is ", extents(weight),
                                      ", expected one row whose length divides x's ", x.cols, " columns"));
  }
  return x.cols / weight.cols;
}

}  // namespace

void rms_norm(Device& device, const RmsNormForward& args) {
  const ConstMatrix& x = args.x;
  const Index groups = expect_groups("rms_norm", x, args.weight);
  expect_extents("rms_norm", "y", args.y, x.rows, x.cols);
  if (!args.statistics.empty()) expect_f32("rms_norm", "statistics", args.statistics, x.rows, groups);
  const Operation run(device, Phase::elementwise,
                      {4.0 * x.count(), moved_bytes(x, args.weight, args.y, args.statistics)});
  if (run.host()) rms_norm_host(args);
  if (run.cuda()) rms_norm_cuda(device, args);
}

void rms_norm(Device& device, const RmsNormBackward& args) {
  const ConstMatrix& x = args.x;
  const Index groups = expect_groups("rms_norm backward", x, args.weight);
  expect_f32("rms_norm backward", "statistics", args.statistics, x.rows, groups);
  expect_extents("rms_norm backward", "dy", args.dy, x.rows, x.cols);
  expect_extents("rms_norm backward", "dx", args.dx, x.rows, x.cols);
  const bool trained = args.dweight.cols > 0;
  if (trained) expect_f32("rms_norm backward", "dweight", args.dweight, 1, args.weight.cols);
  double bytes = moved_bytes(x, args.statistics, args.weight, args.dy, args.dx);
  if (args.accumulate) bytes += moved_bytes(args.dx);
  if (trained) bytes += 2 * moved_bytes(args.dweight);
  const Operation run(device, Phase::elementwise, {(trained ? 10.0 : 8.0) * x.count(), bytes});
  const Buffer scratch = cuda_scratch(device, rms_norm_cuda_scratch(args));
  if (run.host()) rms_norm_host(args);
  if (run.cuda()) rms_norm_cuda(device, args, scratch.data());
}

}  // namespace lorashard::kernels
