#include "kernels/rotary.hpp"

#include "kernels/cuda_operations.hpp"
#include "kernels/host_operations.hpp"
#include "kernels/operation.hpp"

namespace lorashard::kernels {
namespace {

// FLOPs of a turned element, and of an angle's cosine and sine.
constexpr double kTurnedFlops = 3, kAngleFlops = 30;

void expect_positions(const Rotary& args) {
  if (args.positions.empty() && args.x.rows > 0) {
    if (args.length < 1) {
      fail(Failure::configuration, text("rotary: length is ", args.length, " without positions, expected 1 or more"));
    }
  } else if (static_cast<Index>(args.positions.size()) != args.x.rows) {
    fail(Failure::configuration,
         text("rotary: ", args.positions.size(), " positions for a matrix of ", extents(args.x)));
  }
}

}  // namespace

void rotary(Device& device, const Rotary& args) {
  const ConstMatrix& x = args.x;
  if (args.head_size < 2 || args.head_size % 2 != 0 || x.cols % args.head_size != 0) {
    fail(Failure::configuration, text("rotary: head size ", args.head_size, ", x is ", extents(x),
                                      "; expected an even size, of which x's columns are a multiple"));
  }
  expect_extents("rotary", "y", args.y, x.rows, x.cols);
  expect_f32("rotary", "frequencies", args.frequencies, 1, args.head_size / 2);
  expect_positions(args);
  const double angles = static_cast<double>(x.empty() ? 0 : x.rows * args.head_size / 2);
  const double position_bytes = static_cast<double>(args.positions.size_bytes());
  const Operation run(
      device, Phase::elementwise,
      {kTurnedFlops * x.count() + kAngleFlops * angles, position_bytes + moved_bytes(x, args.frequencies, args.y)});
  if (run.host()) rotary_host(args);
  if (run.cuda()) rotary_cuda(device, args);
}

}  // namespace lorashard::kernels
