// The loops that the host's operations share. Work is cut by extents alone, never by the number of threads, so results
// do not depend on it.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/numbers.hpp"
#include "kernels/view.hpp"

namespace lorashard::kernels {

// Elements worked on at a time: widened copies of a few operands stay in the first-level cache.
inline constexpr Index kBlock = 1024;
// Below this many elements, starting threads costs more than it saves (a few microseconds).
inline constexpr Index kWorthThreads = Index{1} << 14;

inline Index divide_up(Index a, Index b) { return (a + b - 1) / b; }

// Elements [first, first + count) of row r as floats: the row itself, or widened into `room`.
inline const float* read(const ConstMatrix& m, Index r, Index first, Index count, float* room) {
  if (m.dtype == DType::f32) return m.row<float>(r) + first;
  const bf16* from = m.row<bf16>(r) + first;
#pragma omp simd
  for (Index i = 0; i < count; ++i) room[i] = to_float(from[i]);
  return room;
}

// Where to compute such elements: in place, or in `room` until write() rounds them.
inline float* target(const Matrix& m, Index r, Index first, float* room) {
  return m.dtype == DType::f32 ? m.row<float>(r) + first : room;
}
inline void write(const Matrix& m, Index r, Index first, Index count, const float* from) {
  if (m.dtype == DType::f32) return;
  bf16* to = m.row<bf16>(r) + first;
#pragma omp simd
  for (Index i = 0; i < count; ++i) to[i] = to_bf16(from[i]);
}

// A row vector as floats.
inline std::vector<float> widened(const ConstMatrix& row) {
  std::vector<float> result(row.cols);
  const float* from = read(row, 0, 0, row.cols, result.data());
  if (from != result.data()) std::copy_n(from, row.cols, result.begin());
  return result;
}

// Makes one long row of operands that all lie without gaps.
template <class... M>
void flatten(M&... m) {
  if (!(m.contiguous() && ...)) return;
  ((m = M(m.data, m.dtype, 1, m.count(), m.count())), ...);
}

// body(row, first, count) for every block of every row, in parallel.
template <class Body>
void for_blocks(Index rows, Index cols, const Body& body) {
  const Index blocks = divide_up(cols, kBlock);
#pragma omp parallel for schedule(static) if (rows * cols >= kWorthThreads)
  for (Index i = 0; i < rows * blocks; ++i) {
    const Index first = i % blocks * kBlock;
    body(i / blocks, first, std::min(kBlock, cols - first));
  }
}

// y = f(x...) element by element; any x may be y itself, and a stride of 0 repeats one row.
template <class F, class... X>
void map(const F& f, Matrix y, X... x) {
  flatten(y, x...);
  for_blocks(y.rows, y.cols, [&](Index r, Index first, Index count) {
    float rooms[sizeof...(X) + 1][kBlock];
    const auto apply = [&]<std::size_t... I>(std::index_sequence<I...>) {
      float* to = target(y, r, first, rooms[sizeof...(X)]);
      // Named by the pack, so that the loop below sees plain pointers.
      const auto loop = [&](auto... from) {
#pragma omp simd
        for (Index i = 0; i < count; ++i) to[i] = f(from[i]...);
      };
      loop(read(x, r, first, count, rooms[I])...);
      write(y, r, first, count, to);
    };
    apply(std::index_sequence_for<X...>{});
  });
}

// Sums of f(i) over [0, count) in a fixed order: 16 running sums side by side, which is also what vector units want.
template <class Sum = float, class F>
Sum lane_sum(Index count, const F& f) {
  constexpr Index kWidth = 16;
  Sum lanes[kWidth] = {};
  const Index whole = count / kWidth * kWidth;
  for (Index i = 0; i < whole; i += kWidth) {
#pragma omp simd
    for (Index l = 0; l < kWidth; ++l) lanes[l] += f(i + l);
  }
  for (Index i = whole; i < count; ++i) lanes[i - whole] += f(i);
  for (Index half = kWidth / 2; half > 0; half /= 2) {
    for (Index l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

// Sum of f(element) over an f32 matrix, in double: of each piece of 4096 elements of a row, then of those in order.
template <class F>
double ordered_sum(ConstMatrix m, const F& f) {
  constexpr Index kPiece = 4096;
  flatten(m);
  const Index pieces = divide_up(m.cols, kPiece);
  std::vector<double> sums(m.rows * pieces);
#pragma omp parallel for schedule(static) if (m.count() >= kWorthThreads)
  for (Index p = 0; p < m.rows * pieces; ++p) {
    const Index first = p % pieces * kPiece;
    const float* x = m.row<float>(p / pieces) + first;
    sums[p] = lane_sum<double>(std::min(kPiece, m.cols - first), [&](Index i) { return f(static_cast<double>(x[i])); });
  }
  double total = 0.0;
  for (const double sum : sums) total += sum;
  return total;
}

// Columns that one thread sums at a time when rows must be summed in order: 8 cache lines of a row.
inline constexpr Index kColumns = 128;

// body(first, count) for fixed blocks of columns in parallel; each walks its rows in order.
template <class Body>
void for_column_blocks(Index rows, Index cols, const Body& body) {
#pragma omp parallel for schedule(dynamic) if (rows * cols >= kWorthThreads)
  for (Index first = 0; first < cols; first += kColumns) body(first, std::min(kColumns, cols - first));
}

}  // namespace lorashard::kernels
