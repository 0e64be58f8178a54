#include <cmath>

#include "kernels/host_loops.hpp"
#include "kernels/host_operations.hpp"

namespace lorashard::kernels {

void adamw_host(const AdamW& args) {
  AdamWElement element = adamw_element(args);
  if (!args.control.empty()) {
    const double* control = args.control.row<double>(0);
    if (control[StepControl::halted] != 0) return;
    element.gradient_scale = static_cast<float>(control[StepControl::scale]);
  }
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

void add_sum_of_squares_host(ConstMatrix m, Matrix total) {
  total.row<double>(0)[0] += ordered_sum(m, [](double x) { return x * x; });
}

void finish_step_host(const StepOutcome& args) {
  double loss = 0, squares = 0;
  for (Index rank = 0; rank < args.totals.rows; ++rank) {
    loss += args.totals.row<double>(rank)[0];
    squares += args.totals.row<double>(rank)[1];
  }
  conclude_step(loss * args.loss_scale, squares, args.clip, args.control.row<double>(0));
}

}  // namespace lorashard::kernels
