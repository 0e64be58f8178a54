#include "kernels/cuda_norm.cuh"
#include "kernels/cuda_operations.hpp"

namespace lorashard::kernels {
namespace {

struct Forward {
  Rows rows;
  Operand x, weight, bias, y, statistics;  // statistics without data: not wanted
  float eps;
};

template <int kWidth, bool kKept>
__global__ void __launch_bounds__(kThreads) forward_kernel(Forward args) {
  const Rows rows = args.rows;
  const Index r = rows.mine();
  if (r >= rows.count) return;
  float* kept = rows.keep();
  const auto read = [&](Index c, float(&x)[kWidth]) {
    if constexpr (kKept)
      load_kept(kept + c, x);
    else
      load(args.x, r, c, x);
  };
  float sum = 0;
  rows.for_columns<kWidth>([&](Index c) {
    float x[kWidth];
    load(args.x, r, c, x);
    if constexpr (kKept) put_kept(kept + c, x);
    for (float value : x) sum += value;
  });
  const float mean = rows.sum(sum) / static_cast<float>(rows.cols);
  // Squares around the mean: the difference of mean square and squared mean would cancel.
  float squares = 0;
  rows.for_columns<kWidth>([&](Index c) {
    float x[kWidth];
    read(c, x);
    for (float value : x) squares += (value - mean) * (value - mean);
  });
  const float rstd = 1.0f / std::sqrt(rows.sum(squares) / static_cast<float>(rows.cols) + args.eps);
  rows.for_columns<kWidth>([&](Index c) {
    float x[kWidth], w[kWidth], b[kWidth], y[kWidth];
    read(c, x);
    load(args.weight, 0, c, w);
    load(args.bias, 0, c, b);
    for (int i = 0; i < kWidth; ++i) y[i] = (x[i] - mean) * rstd * w[i] + b[i];
    put(args.y, r, c, y);
  });
  if (threadIdx.x == 0 && args.statistics.data != nullptr) {
    args.statistics.at<float>(r, 0)[0] = mean;
    args.statistics.at<float>(r, 0)[1] = rstd;
  }
}

struct Backward {
  Rows rows;
  Operand x, statistics, weight, dy, dx;
  bool accumulate;
};

// dx = rstd * (g - mean(g) - xhat * mean(g xhat)), g = dy * weight.
template <int kWidth, bool kKept>
__global__ void __launch_bounds__(kThreads) backward_kernel(Backward args) {
  const Rows rows = args.rows;
  const Index r = rows.mine();
  if (r >= rows.count) return;
  const float mean = args.statistics.at<float>(r, 0)[0], rstd = args.statistics.at<float>(r, 0)[1];
  float* kept = rows.keep();  // g, then xhat
  const auto compute = [&](Index c, float(&g)[kWidth], float(&xhat)[kWidth]) {
    float x[kWidth], w[kWidth], dy[kWidth];
    load(args.x, r, c, x);
    load(args.dy, r, c, dy);
    load(args.weight, 0, c, w);
    for (int i = 0; i < kWidth; ++i) {
      g[i] = dy[i] * w[i];
      xhat[i] = (x[i] - mean) * rstd;
    }
  };
  float sum = 0, product = 0;
  rows.for_columns<kWidth>([&](Index c) {
    float g[kWidth], xhat[kWidth];
    compute(c, g, xhat);
    if constexpr (kKept) put_kept(kept + c, g), put_kept(kept + rows.kept / 2 + c, xhat);
    for (int i = 0; i < kWidth; ++i) {
      sum += g[i];
      product += g[i] * xhat[i];
    }
  });
  const float mean_g = rows.sum(sum) / static_cast<float>(rows.cols);
  const float mean_gx = rows.sum(product) / static_cast<float>(rows.cols);
  rows.for_columns<kWidth>([&](Index c) {
    float g[kWidth], xhat[kWidth], dx[kWidth] = {};
    if constexpr (kKept)
      load_kept(kept + c, g), load_kept(kept + rows.kept / 2 + c, xhat);
    else
      compute(c, g, xhat);
    if (args.accumulate) load(args.dx, r, c, dx);
    for (int i = 0; i < kWidth; ++i) dx[i] += rstd * (g[i] - mean_g - xhat[i] * mean_gx);
    put(args.dx, r, c, dx);
  });
}

// dweight += dy * xhat, dbias += dy.
struct WeightTerm {
  static constexpr int kSums = 2;
  Operand x, statistics, dy;

  template <int kWidth>
  __device__ void operator()(Index r, Index c, float (&sums)[2][kWidth]) const {
    const float mean = statistics.at<float>(r, 0)[0], rstd = statistics.at<float>(r, 0)[1];
    float from[kWidth], gradient[kWidth];
    load(x, r, c, from);
    load(dy, r, c, gradient);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      sums[0][i] += gradient[i] * ((from[i] - mean) * rstd);
      sums[1][i] += gradient[i];
    }
  }
};

template <int kWidth, bool kKept>
struct ForwardKernel {
  static constexpr auto run = forward_kernel<kWidth, kKept>;
};
template <int kWidth, bool kKept>
struct BackwardKernel {
  static constexpr auto run = backward_kernel<kWidth, kKept>;
};

}  // namespace

void layer_norm_cuda(Device& device, const LayerNormForward& args) {
  if (args.x.empty()) return;
  const Operand statistics = args.statistics.empty() ? Operand{} : operand(args.statistics);
  const Forward forward{{args.x.rows, args.x.cols, 0},
                        operand(args.x),
                        operand(args.weight),
                        operand(args.bias),
                        operand(args.y),
                        statistics,
                        args.eps};
  launch_rows<ForwardKernel>(device, forward, all_in_fours(args.x, args.weight, args.bias, args.y), 1);
}

void layer_norm_cuda(Device& device, const LayerNormBackward& args, std::byte* scratch) {
  if (args.x.empty()) return;
  const Operand x = operand(args.x), statistics = operand(args.statistics), dy = operand(args.dy);
  // Before dx is written, which may be dy.
  if (!args.dweight.empty()) {
    add_column_sums(device, WeightTerm{x, statistics, dy},
                    {args.x.rows, args.x.cols, all_in_fours(args.x, args.dy), scratch},
                    {args.dweight.row<float>(0), args.dbias.row<float>(0)});
  }
  const Backward backward{
      {args.x.rows, args.x.cols, 0}, x, statistics, operand(args.weight), dy, operand(args.dx), args.accumulate};
  launch_rows<BackwardKernel>(device, backward, all_in_fours(args.x, args.weight, args.dy, args.dx), 2);
}

}  // namespace lorashard::kernels
