#include "kernels/cuda_norm.cuh"
#include "kernels/cuda_operations.hpp"

namespace lorashard::kernels {
namespace {

// Where a group of columns lies: a kernel's rows are groups, `per_row` of which are a row of x. In 32 bits, for a
// 64-bit remainder would cost more than the sums of a short group.
struct Groups {
  unsigned per_row, cols;

  struct Place {
    Index row, group, first;  // first: column
  };
  __device__ Place place(Index group) const {
    const unsigned row = static_cast<unsigned>(group) / per_row, of_row = static_cast<unsigned>(group) - row * per_row;
    return {Index{row}, Index{of_row}, Index{of_row} * cols};
  }
};
Groups groups_of(const char* operation, const ConstMatrix& x, const ConstMatrix& weight) {
  const Index per_row = x.cols / weight.cols;
  if (x.rows * per_row > Index{1} << 32) {
    fail(Failure::configuration, text(operation, ": x is ", extents(x), " in groups of ", weight.cols,
                                      ", expected at most 2^32 groups on a GPU"));
  }
  return {static_cast<unsigned>(per_row), static_cast<unsigned>(weight.cols)};
}

struct Forward {
  Rows rows;
  Groups groups;
  Operand x, weight, y, statistics;  // statistics without data: not wanted
  float eps;
};

template <int kWidth, bool kKept>
__global__ void __launch_bounds__(kThreads) rms_forward_kernel(Forward args) {
  const Rows rows = args.rows;
  if (rows.mine() >= rows.count) return;
  const Groups::Place at = args.groups.place(rows.mine());
  float* kept = rows.keep();
  float squares = 0;
  rows.for_columns<kWidth>([&](Index c) {
    float x[kWidth];
    load(args.x, at.row, at.first + c, x);
    if constexpr (kKept) put_kept(kept + c, x);
    for (float value : x) squares += value * value;
  });
  const float rstd = 1.0f / std::sqrt(rows.sum(squares) / static_cast<float>(rows.cols) + args.eps);
  if (threadIdx.x == 0 && args.statistics.data != nullptr) *args.statistics.at<float>(at.row, at.group) = rstd;
  rows.for_columns<kWidth>([&](Index c) {
    float x[kWidth], w[kWidth], y[kWidth];
    if constexpr (kKept)
      load_kept(kept + c, x);
    else
      load(args.x, at.row, at.first + c, x);
    load(args.weight, 0, c, w);
    for (int i = 0; i < kWidth; ++i) y[i] = x[i] * rstd * w[i];
    put(args.y, at.row, at.first + c, y);
  });
}

struct Backward {
  Rows rows;
  Groups groups;
  Operand x, statistics, weight, dy, dx;
  bool accumulate;
};

// dx = rstd * (g - xhat * mean(g xhat)), g = dy * weight.
template <int kWidth, bool kKept>
__global__ void __launch_bounds__(kThreads) rms_backward_kernel(Backward args) {
  const Rows rows = args.rows;
  if (rows.mine() >= rows.count) return;
  const Groups::Place at = args.groups.place(rows.mine());
  const float rstd = *args.statistics.at<float>(at.row, at.group);
  float* kept = rows.keep();  // g, then xhat
  const auto compute = [&](Index c, float(&g)[kWidth], float(&xhat)[kWidth]) {
    float x[kWidth], w[kWidth], dy[kWidth];
    load(args.x, at.row, at.first + c, x);
    load(args.dy, at.row, at.first + c, dy);
    load(args.weight, 0, c, w);
    for (int i = 0; i < kWidth; ++i) {
      g[i] = dy[i] * w[i];
      xhat[i] = x[i] * rstd;
    }
  };
  float product = 0;
  rows.for_columns<kWidth>([&](Index c) {
    float g[kWidth], xhat[kWidth];
    compute(c, g, xhat);
    if constexpr (kKept) put_kept(kept + c, g), put_kept(kept + rows.kept / 2 + c, xhat);
    for (int i = 0; i < kWidth; ++i) product += g[i] * xhat[i];
  });
  const float mean = rows.sum(product) / static_cast<float>(rows.cols);
  rows.for_columns<kWidth>([&](Index c) {
    float g[kWidth], xhat[kWidth], dx[kWidth] = {};
    if constexpr (kKept)
      load_kept(kept + c, g), load_kept(kept + rows.kept / 2 + c, xhat);
    else
      compute(c, g, xhat);
    if (args.accumulate) load(args.dx, at.row, at.first + c, dx);
    for (int i = 0; i < kWidth; ++i) dx[i] += rstd * (g[i] - xhat[i] * mean);
    put(args.dx, at.row, at.first + c, dx);
  });
}

// dweight += dy * xhat, a group a row.
struct WeightTerm {
  static constexpr int kSums = 1;
  Groups groups;
  Operand x, statistics, dy;

  template <int kWidth>
  __device__ void operator()(Index group, Index c, float (&sums)[1][kWidth]) const {
    const Groups::Place at = groups.place(group);
    const float rstd = *statistics.at<float>(at.row, at.group);
    float from[kWidth], gradient[kWidth];
    load(x, at.row, at.first + c, from);
    load(dy, at.row, at.first + c, gradient);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sums[0][i] += gradient[i] * (from[i] * rstd);
  }
};

template <int kWidth, bool kKept>
struct ForwardKernel {
  static constexpr auto run = rms_forward_kernel<kWidth, kKept>;
};
template <int kWidth, bool kKept>
struct BackwardKernel {
  static constexpr auto run = rms_backward_kernel<kWidth, kKept>;
};

}  // namespace

void rms_norm_cuda(Device& device, const RmsNormForward& args) {
  if (args.x.empty()) return;
  const Groups groups = groups_of("rms_norm", args.x, args.weight);
  const Operand statistics = args.statistics.empty() ? Operand{} : operand(args.statistics);
  const Forward forward{{args.x.rows * groups.per_row, args.weight.cols, 0},
                        groups,
                        operand(args.x),
                        operand(args.weight),
                        operand(args.y),
                        statistics,
                        args.eps};
  const bool vectors = all_in_fours(args.x, args.weight, args.y);
  launch_rows<ForwardKernel>(device, forward, vectors, 1);
}

void rms_norm_cuda(Device& device, const RmsNormBackward& args, std::byte* scratch) {
  if (args.x.empty()) return;
  const Groups groups = groups_of("rms_norm backward", args.x, args.weight);
  const Index count = args.x.rows * groups.per_row, cols = args.weight.cols;
  const Operand x = operand(args.x), statistics = operand(args.statistics), dy = operand(args.dy);
  // Before dx is written, which may be dy.
  if (!args.dweight.empty()) {
    const bool vectors = all_in_fours(args.x, args.dy) && cols % 4 == 0;
    add_column_sums(device, WeightTerm{groups, x, statistics, dy}, {count, cols, vectors, scratch},
                    {args.dweight.row<float>(0)});
  }
  const Backward backward{{count, cols, 0}, groups,         x, statistics, operand(args.weight), dy,
                          operand(args.dx), args.accumulate};
  launch_rows<BackwardKernel>(device, backward, all_in_fours(args.x, args.weight, args.dy, args.dx), 2);
}

}  // namespace lorashard::kernels
