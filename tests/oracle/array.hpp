// The oracle's only container: a row-major matrix of double. A vector is a matrix of one row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lorashard::oracle {

using Index = std::int64_t;

struct Array {
  Index rows = 0, cols = 0;
  std::vector<double> values;

  Array() = default;
  Array(Index rows, Index cols, double value = 0)
      : rows(rows), cols(cols), values(static_cast<std::size_t>(rows * cols), value) {}

  bool empty() const { return values.empty(); }
  double* row(Index i) { return values.data() + i * cols; }
  const double* row(Index i) const { return values.data() + i * cols; }
  double& operator()(Index i, Index j) { return row(i)[j]; }
  double operator()(Index i, Index j) const { return row(i)[j]; }
};

Array transposed(const Array& m);
// Rows [first, first + count).
Array rows_of(const Array& m, Index first, Index count);
// Columns [first, first + count); and those columns of `m` increased by `part`.
Array columns_of(const Array& m, Index first, Index count);
void add_to_columns(const Array& part, Index first, Array& m);
// The rows of one below those of the other.
Array stacked(const std::vector<Array>& parts);
// Euclidean norm of all elements.
double norm(const Array& m);
// ||a - b|| over all elements; extents must agree (throws std::invalid_argument).
double distance(const Array& a, const Array& b);
// The largest |a - b|.
double largest_difference(const Array& a, const Array& b);

}  // namespace lorashard::oracle
