// What the norms' backward passes share. Sums over the rows of a matrix, of every column at once, in parts whose extents depend on the number of rows alone:
// each is one thread's, and the parts are added in order.
#pragma once

#include "kernels/host_loops.hpp"

namespace lorashard::kernels {

// At most 64 parts of 8 rows or more.
struct RowParts {
  explicit RowParts(Index rows)
      : rows(rows), each(std::max<Index>(8, divide_up(rows, 64))), count(divide_up(rows, each)) {}
  Index begin(Index part) const { return part * each; }
  Index end(Index part) const { return std::min(rows, (part + 1) * each); }

  Index rows, each, count;
};

// to (1,C) += the parts' sums in order: part p's begin at from[p * distance].
inline void add_parts(const float* from, const RowParts& parts, Index distance, Matrix to) {
  float* total = to.row<float>(0);
  for (Index p = 0; p < parts.count; ++p) {
    const float* sums = from + p * distance;
#pragma omp simd
    for (Index i = 0; i < to.cols; ++i) total[i] += sums[i];
  }
}

// dx[i] = value(i), added to before[i] unless that is null.
template <class Value>
void write_gradient(Index cols, const float* before, const Value& value, float* dx) {
  if (before != nullptr) {
#pragma omp simd
    for (Index i = 0; i < cols; ++i) dx[i] = before[i] + value(i);
  } else {
#pragma omp simd
    for (Index i = 0; i < cols; ++i) dx[i] = value(i);
  }
}

}  // namespace lorashard::kernels
