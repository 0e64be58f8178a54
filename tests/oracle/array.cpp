#include "tests/oracle/array.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace lorashard::oracle {
namespace {

void expect_same_extents(const Array& a, const Array& b) {
  if (a.rows == b.rows && a.cols == b.cols) return;
  throw std::invalid_argument("arrays of different extents: " + std::to_string(a.rows) + "x" + std::to_string(a.cols) +
                              " and " + std::to_string(b.rows) + "x" + std::to_string(b.cols));
}

}  // namespace

Array transposed(const Array& m) {
  Array t(m.cols, m.rows);
  for (Index i = 0; i < m.rows; ++i)
    for (Index j = 0; j < m.cols; ++j) t(j, i) = m(i, j);
  return t;
}

Array rows_of(const Array& m, Index first, Index count) {
  Array part(count, m.cols);
  std::copy(m.row(first), m.row(first) + count * m.cols, part.row(0));
  return part;
}

Array columns_of(const Array& m, Index first, Index count) {
  Array part(m.rows, count);
  for (Index i = 0; i < m.rows; ++i) std::copy(m.row(i) + first, m.row(i) + first + count, part.row(i));
  return part;
}

void add_to_columns(const Array& part, Index first, Array& m) {
  for (Index i = 0; i < part.rows; ++i)
    for (Index j = 0; j < part.cols; ++j) m(i, first + j) += part(i, j);
}

Array stacked(const std::vector<Array>& parts) {
  Array whole;
  for (const Array& part : parts) {
    if (!whole.empty() && part.cols != whole.cols) throw std::invalid_argument("rows of different widths are stacked");
    whole.rows += part.rows, whole.cols = part.cols;
    whole.values.insert(whole.values.end(), part.values.begin(), part.values.end());
  }
  return whole;
}

double norm(const Array& m) {
  double sum = 0;
  for (double x : m.values) sum += x * x;
  return std::sqrt(sum);
}

double distance(const Array& a, const Array& b) {
  expect_same_extents(a, b);
  double sum = 0;
  for (std::size_t i = 0; i < a.values.size(); ++i) sum += (a.values[i] - b.values[i]) * (a.values[i] - b.values[i]);
  return std::sqrt(sum);
}

double largest_difference(const Array& a, const Array& b) {
  expect_same_extents(a, b);
  double largest = 0;
  // Written so that a NaN on either side counts as infinitely far.
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    const double difference = std::abs(a.values[i] - b.values[i]);
    largest = std::isnan(difference) ? HUGE_VAL : std::max(largest, difference);
  }
  return largest;
}

}  // namespace lorashard::oracle
