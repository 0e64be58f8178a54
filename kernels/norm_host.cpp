#include <cmath>

#include "kernels/host_operations.hpp"
#include "kernels/host_row_parts.hpp"

namespace lorashard::kernels {
namespace {

struct RowStatistics {
  float mean, rstd;
};

// Two passes: the mean first, then the squares around it, which does not cancel.
RowStatistics statistics_of(const float* x, Index cols, float eps) {
  const float mean = lane_sum(cols, [x](Index i) { return x[i]; }) / static_cast<float>(cols);
  const float squares = lane_sum(cols, [x, mean](Index i) { return (x[i] - mean) * (x[i] - mean); });
  return {mean, 1.0f / std::sqrt(squares / static_cast<float>(cols) + eps)};
}

// dx of one row: rstd * (g - mean(g) - xhat * mean(g xhat)), g = dy * weight.
void row_gradient(RowStatistics s, const float* x, const float* w, const float* dy, Index cols, const float* before,
                  float* dx) {
  const float g = lane_sum(cols, [=](Index i) { return dy[i] * w[i]; }) / static_cast<float>(cols);
  const float gx =
      lane_sum(cols, [=](Index i) { return dy[i] * w[i] * ((x[i] - s.mean) * s.rstd); }) / static_cast<float>(cols);
  const auto value = [=](Index i) { return s.rstd * (dy[i] * w[i] - g - (x[i] - s.mean) * s.rstd * gx); };
  write_gradient(cols, before, value, dx);
}

}  // namespace

void layer_norm_host(const LayerNormForward& args) {
  const Index rows = args.x.rows, cols = args.x.cols;
  if (args.x.empty()) return;
  const std::vector<float> weight = widened(args.weight), bias = widened(args.bias);
#pragma omp parallel if (rows * cols >= kWorthThreads)
  {
    std::vector<float> room(2 * cols);
#pragma omp for schedule(static)
    for (Index r = 0; r < rows; ++r) {
      const float* x = read(args.x, r, 0, cols, room.data());
      const RowStatistics s = statistics_of(x, cols, args.eps);
      float* y = target(args.y, r, 0, room.data() + cols);
      const float *w = weight.data(), *b = bias.data();
#pragma omp simd
      for (Index i = 0; i < cols; ++i) y[i] = (x[i] - s.mean) * s.rstd * w[i] + b[i];
      write(args.y, r, 0, cols, y);
      if (args.statistics.empty()) continue;
      args.statistics.row<float>(r)[0] = s.mean;
      args.statistics.row<float>(r)[1] = s.rstd;
    }
  }
}

void layer_norm_host(const LayerNormBackward& args) {
  const Index rows = args.x.rows, cols = args.x.cols;
  if (args.x.empty()) return;
  const bool trained = !args.dweight.empty();
  const std::vector<float> weight = widened(args.weight);
  const RowParts parts(rows);
  std::vector<float> sums(trained ? parts.count * 2 * cols : 0);  // (parts, 2, C)
#pragma omp parallel if (rows * cols >= kWorthThreads)
  {
    std::vector<float> room(4 * cols);
#pragma omp for schedule(static)
    for (Index p = 0; p < parts.count; ++p) {
      for (Index r = parts.begin(p); r < parts.end(p); ++r) {
        const float* x = read(args.x, r, 0, cols, room.data());
        const float* dy = read(args.dy, r, 0, cols, room.data() + cols);
        const float* before = args.accumulate ? read(args.dx, r, 0, cols, room.data() + 2 * cols) : nullptr;
        const RowStatistics s{args.statistics.row<float>(r)[0], args.statistics.row<float>(r)[1]};
        if (trained) {
          float* sum = sums.data() + p * 2 * cols;
#pragma omp simd
          for (Index i = 0; i < cols; ++i) {
            sum[i] += dy[i] * ((x[i] - s.mean) * s.rstd);
            sum[cols + i] += dy[i];
          }
        }
        float* dx = target(args.dx, r, 0, room.data() + 3 * cols);
        row_gradient(s, x, weight.data(), dy, cols, before, dx);
        write(args.dx, r, 0, cols, dx);
      }
    }
  }
  if (!trained) return;
  add_parts(sums.data(), parts, 2 * cols, args.dweight);
  add_parts(sums.data() + cols, parts, 2 * cols, args.dbias);
}

}  // namespace lorashard::kernels
