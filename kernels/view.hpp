// Views: a pointer with its extents, the only way data is passed between functions.
//
// Everything numeric in this program is a row-major matrix of f32 or bf16: activations are (tokens, features),
// weights (out, in), a vector is a matrix of one row. A row may be followed by a gap (stride > cols), so a slice of
// columns is a view too. On the meta device `data` is null and every view of it stays null.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/error.hpp"

namespace lorashard::kernels {

using Index = std::int64_t;

// f64 is for totals alone (losses, squared norms), which a step keeps on the device.
enum class DType : std::uint8_t { f32, bf16, f64 };

constexpr Index size_bytes(DType dtype) { return dtype == DType::f32 ? 4 : dtype == DType::bf16 ? 2 : 8; }
constexpr const char* name(DType dtype) {
  return dtype == DType::f32 ? "fp32" : dtype == DType::bf16 ? "bf16" : "fp64";
}

// Storage of a bf16 value; arithmetic happens in float (see numbers.hpp).
struct bf16 {
  std::uint16_t bits;
};

template <class T>
constexpr DType dtype_of = std::is_same_v<std::remove_const_t<T>, float>    ? DType::f32
                           : std::is_same_v<std::remove_const_t<T>, double> ? DType::f64
                                                                            : DType::bf16;

template <class Byte>
struct BasicMatrix {
  Byte* data = nullptr;
  DType dtype = DType::f32;
  Index rows = 0;
  Index cols = 0;
  Index stride = 0;  // elements from one row to the next

  BasicMatrix() = default;
  BasicMatrix(Byte* data, DType dtype, Index rows, Index cols, Index stride)
      : data(data), dtype(dtype), rows(rows), cols(cols), stride(stride) {}
  // A mutable view converts to a constant one.
  template <class Other, class = std::enable_if_t<std::is_same_v<const Other, Byte> && !std::is_same_v<Other, Byte>>>
  BasicMatrix(const BasicMatrix<Other>& other)
      : data(other.data), dtype(other.dtype), rows(other.rows), cols(other.cols), stride(other.stride) {}

  Index count() const { return rows * cols; }
  Index bytes() const { return count() * size_bytes(dtype); }
  bool contiguous() const { return stride == cols || rows <= 1; }
  bool empty() const { return rows == 0 || cols == 0; }

  BasicMatrix row_range(Index first, Index count) const {
    return {offset(first * stride), dtype, count, cols, stride};
  }
  BasicMatrix col_range(Index first, Index count) const { return {offset(first), dtype, rows, count, stride}; }

  // The elements of row i; T must be the view's element type.
  template <class T>
  auto row(Index i) const {
    using Element = std::conditional_t<std::is_const_v<Byte>, const T, T>;
    return reinterpret_cast<Element*>(data) + i * stride;
  }

 private:
  Byte* offset(Index elements) const { return data ? data + elements * size_bytes(dtype) : nullptr; }
};

using Matrix = BasicMatrix<std::byte>;
using ConstMatrix = BasicMatrix<const std::byte>;

// Views of plain memory, for tests and for data that did not come from a device.
inline Matrix view(float* data, Index rows, Index cols) {
  return {reinterpret_cast<std::byte*>(data), DType::f32, rows, cols, cols};
}
inline ConstMatrix view(const float* data, Index rows, Index cols) {
  return {reinterpret_cast<const std::byte*>(data), DType::f32, rows, cols, cols};
}
inline Matrix view(double* data, Index rows, Index cols) {
  return {reinterpret_cast<std::byte*>(data), DType::f64, rows, cols, cols};
}
inline Matrix view(bf16* data, Index rows, Index cols) {
  return {reinterpret_cast<std::byte*>(data), DType::bf16, rows, cols, cols};
}

inline std::string extents(const ConstMatrix& m) { return text(m.rows, "x", m.cols); }

}  // namespace lorashard::kernels
