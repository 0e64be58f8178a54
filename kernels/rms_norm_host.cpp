#include <cmath>

#include "kernels/host_operations.hpp"
#include "kernels/host_row_parts.hpp"

namespace lorashard::kernels {
namespace {

// A matrix of G groups a row as one of M G rows, one for each group: its row and first column there.
struct Groups {
  Index cols, per_row, count;
  Groups(const ConstMatrix& x, const ConstMatrix& weight)
      : cols(weight.cols), per_row(x.cols / cols), count(x.rows * per_row) {}
  Index row(Index group) const { return group / per_row; }
  Index col(Index group) const { return group % per_row * cols; }
  // Which is an element of the statistics.
  float& of(const Matrix& statistics, Index group) const { return statistics.row<float>(row(group))[group % per_row]; }
  float of(const ConstMatrix& statistics, Index group) const {
    return statistics.row<float>(row(group))[group % per_row];
  }
};

// dx of one group: rstd * (g - xhat * mean(g xhat)), g = dy * weight.
void group_gradient(float rstd, const float* x, const float* w, const float* dy, Index cols, const float* before,
                    float* dx) {
  const float gx = lane_sum(cols, [=](Index i) { return dy[i] * w[i] * (x[i] * rstd); }) / static_cast<float>(cols);
  const auto value = [=](Index i) { return rstd * (dy[i] * w[i] - x[i] * rstd * gx); };
  write_gradient(cols, before, value, dx);
}

}  // namespace

void rms_norm_host(const RmsNormForward& args) {
  if (args.x.empty()) return;
  const Groups groups(args.x, args.weight);
  const Index cols = groups.cols;
  const std::vector<float> weight = widened(args.weight);
#pragma omp parallel if (args.x.count() >= kWorthThreads)
  {
    std::vector<float> room(2 * cols);
#pragma omp for schedule(static)
    for (Index g = 0; g < groups.count; ++g) {
      const Index r = groups.row(g), first = groups.col(g);
      const float* x = read(args.x, r, first, cols, room.data());
      const float squares = lane_sum(cols, [x](Index i) { return x[i] * x[i]; });
      const float rstd = 1.0f / std::sqrt(squares / static_cast<float>(cols) + args.eps);
      float* y = target(args.y, r, first, room.data() + cols);
      const float* w = weight.data();
#pragma omp simd
      for (Index i = 0; i < cols; ++i) y[i] = x[i] * rstd * w[i];
      write(args.y, r, first, cols, y);
      if (!args.statistics.empty()) groups.of(args.statistics, g) = rstd;
    }
  }
}

void rms_norm_host(const RmsNormBackward& args) {
  if (args.x.empty()) return;
  const Groups groups(args.x, args.weight);
  const Index cols = groups.cols;
  const bool trained = !args.dweight.empty();
  const std::vector<float> weight = widened(args.weight);
  const RowParts parts(groups.count);
  std::vector<float> sums(trained ? parts.count * cols : 0);
#pragma omp parallel if (args.x.count() >= kWorthThreads)
  {
    std::vector<float> room(4 * cols);
#pragma omp for schedule(static)
    for (Index p = 0; p < parts.count; ++p) {
      for (Index g = parts.begin(p); g < parts.end(p); ++g) {
        const Index r = groups.row(g), first = groups.col(g);
        const float* x = read(args.x, r, first, cols, room.data());
        const float* dy = read(args.dy, r, first, cols, room.data() + cols);
        const float* before = args.accumulate ? read(args.dx, r, first, cols, room.data() + 2 * cols) : nullptr;
        const float rstd = groups.of(args.statistics, g);
        if (trained) {
          float* sum = sums.data() + p * cols;
#pragma omp simd
          for (Index i = 0; i < cols; ++i) sum[i] += dy[i] * (x[i] * rstd);
        }
        float* dx = target(args.dx, r, first, room.data() + 3 * cols);
        group_gradient(rstd, x, weight.data(), dy, cols, before, dx);
        write(args.dx, r, first, cols, dx);
      }
    }
  }
  if (trained) add_parts(sums.data(), parts, cols, args.dweight);
}

}  // namespace lorashard::kernels
