#include <cmath>

#include "kernels/host_loops.hpp"
#include "kernels/host_operations.hpp"

namespace lorashard::kernels {

void adamw_host(const AdamW& args) {
  // 1 - b^t cancels for b near 1, so in double and once.
  const double correction1 = 1.0 - std::pow(static_cast<double>(args.beta1), static_cast<double>(args.step));
  const double correction2 = 1.0 - std::pow(static_cast<double>(args.beta2), static_cast<double>(args.step));
  const AdamWElement element{
      .beta1 = args.beta1,
      .beta2 = args.beta2,
      .rest1 = static_cast<float>(1.0 - static_cast<double>(args.beta1)),
      .rest2 = static_cast<float>(1.0 - static_cast<double>(args.beta2)),
      .gradient_scale = args.gradient_scale,
      .step_size = static_cast<float>(args.lr / correction1),
      .over_root2 = static_cast<float>(1.0 / std::sqrt(correction2)),
      .eps = args.eps,
      .decay = static_cast<float>(static_cast<double>(args.lr) * args.weight_decay),
  };
  for_blocks(args.weight.rows, args.weight.cols, [&](Index r, Index first, Index count) {
    float* w = args.weight.row<float>(r) + first;
    float* m = args.first_moment.row<float>(r) + first;
    float* v = args.second_moment.row<float>(r) + first;
    const float* g = args.gradient.row<float>(r) + first;
#pragma omp simd
    for (Index i = 0; i < count; ++i) element.update(w[i], m[i], v[i], g[i]);
    if (!args.low_precision.empty()) write(args.low_precision, r, first, count, w);
  });
}

double sum_of_squares_host(ConstMatrix m) {
  return ordered_sum(m, [](double x) { return x * x; });
}

}  // namespace lorashard::kernels
