// A matrix the other way round, as Hugging Face's Conv1D stores its weights.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/view.hpp"

namespace lorashard::core {

// (rows, cols) -> (cols, rows), in squares that stay in cache.
template <class Number>
std::vector<Number> turned(const std::vector<Number>& from, kernels::Index rows, kernels::Index cols) {
  using kernels::Index;
  constexpr Index kSquare = 32;
  std::vector<Number> to(from.size());
  for (Index i0 = 0; i0 < rows; i0 += kSquare)
    for (Index j0 = 0; j0 < cols; j0 += kSquare)
      for (Index i = i0; i < std::min(rows, i0 + kSquare); ++i)
        for (Index j = j0; j < std::min(cols, j0 + kSquare); ++j)
          to[static_cast<std::size_t>(j * rows + i)] = from[static_cast<std::size_t>(i * cols + j)];
  return to;
}

}  // namespace lorashard::core
