#include "kernels/norm.hpp"

#include "kernels/cuda_operations.hpp"
#include "kernels/host_operations.hpp"
#include "kernels/operation.hpp"

namespace lorashard::kernels {

void layer_norm(Device& device, const LayerNormForward& args) {
  const ConstMatrix& x = args.x;
  expect_extents("layer_norm", "weight", args.weight, 1, x.cols);
  expect_extents("layer_norm", "bias", args.bias, 1, x.cols);
  expect_extents("layer_norm", "y", args.y, x.rows, x.cols);
  if (!args.statistics.empty()) expect_f32("layer_norm", "statistics", args.statistics, x.rows, 2);
  const Operation run(device, Phase::elementwise,
                      {8.0 * x.count(), moved_bytes(x, args.weight, args.bias, args.y, args.statistics)});
  if (run.host()) layer_norm_host(args);
  if (run.cuda()) layer_norm_cuda(device, args);
}

void layer_norm(Device& device, const LayerNormBackward& args) {
  const ConstMatrix& x = args.x;
  expect_f32("layer_norm backward", "statistics", args.statistics, x.rows, 2);
  expect_extents("layer_norm backward", "weight", args.weight, 1, x.cols);
  expect_extents("layer_norm backward", "dy", args.dy, x.rows, x.cols);
  expect_extents("layer_norm backward", "dx", args.dx, x.rows, x.cols);
  const bool trained = args.dweight.cols > 0 || args.dbias.cols > 0;
  if (trained) {
    expect_f32("layer_norm backward", "dweight", args.dweight, 1, x.cols);
    expect_f32("layer_norm backward", "dbias", args.dbias, 1, x.cols);
  }
  double bytes = moved_bytes(x, args.statistics, args.weight, args.dy, args.dx);
  if (args.accumulate) bytes += moved_bytes(args.dx);
  if (trained) bytes += 2 * moved_bytes(args.dweight, args.dbias);
  const Operation run(device, Phase::elementwise, {(trained ? 14.0 : 11.0) * x.count(), bytes});
  const Buffer scratch = cuda_scratch(device, layer_norm_cuda_scratch(args));
  if (run.host()) layer_norm_host(args);
  if (run.cuda()) layer_norm_cuda(device, args, scratch.data());
}

}  // namespace lorashard::kernels
