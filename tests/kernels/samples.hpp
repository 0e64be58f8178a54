// Data and comparisons that the tests of kernels share.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "kernels/device.hpp"
#include "kernels/random.hpp"

namespace lorashard::kernels {

inline constexpr double kFloatEpsilon = 0x1.0p-24;  // unit roundoff of float
inline constexpr double kBf16Epsilon = 0x1.0p-8;    // unit roundoff of bf16

inline double unit_roundoff(DType dtype) { return dtype == DType::f32 ? kFloatEpsilon : kBf16Epsilon; }

inline double element(const ConstMatrix& m, Index r, Index c) {
  return m.dtype == DType::f32 ? m.row<float>(r)[c] : to_float(m.row<bf16>(r)[c]);
}
inline void set_element(const Matrix& m, Index r, Index c, double value) {
  if (m.dtype == DType::f32) {
    m.row<float>(r)[c] = static_cast<float>(value);
  } else {
    m.row<bf16>(r)[c] = to_bf16(static_cast<float>(value));
  }
}

// A plain matrix of doubles, for what is expected.
struct Doubles {
  Index rows = 0, cols = 0;
  std::vector<double> values;
  Doubles(Index rows, Index cols) : rows(rows), cols(cols), values(rows * cols) {}
  double& operator()(Index r, Index c) { return values[r * cols + c]; }
  double operator()(Index r, Index c) const { return values[r * cols + c]; }
};

inline Doubles to_doubles(const ConstMatrix& m) {
  Doubles result(m.rows, m.cols);
  for (Index r = 0; r < m.rows; ++r) {
    for (Index c = 0; c < m.cols; ++c) result(r, c) = element(m, r, c);
  }
  return result;
}

// A matrix in plain memory whose rows are followed by a gap of `gap` elements that hold a mark; the destructor checks
// that no operation wrote there.
class Sample {
 public:
  Sample(DType dtype, Index rows, Index cols, Index gap = 0)
      : whole_(rows * (cols + gap) * size_bytes(dtype) + 1, std::byte{0x5a}),
        view_(whole_.data(), dtype, rows, cols, cols + gap) {}
  ~Sample() {
    for (Index r = 0; r < view_.rows; ++r) {
      const std::byte* gap = view_.data + (r * view_.stride + view_.cols) * size_bytes(view_.dtype);
      const Index bytes = (view_.stride - view_.cols) * size_bytes(view_.dtype);
      for (Index i = 0; i < bytes; ++i) EXPECT_EQ(gap[i], std::byte{0x5a}) << "behind row " << r;
    }
    EXPECT_EQ(whole_.back(), std::byte{0x5a}) << "behind the matrix";
  }
  Sample(const Sample&) = delete;
  Sample& operator=(const Sample&) = delete;

  // Normal values of a stream; `scale` and `shift` as wished.
  Sample& normals(std::uint64_t stream, double scale = 1.0, double shift = 0.0) {
    for (Index r = 0; r < view_.rows; ++r) {
      for (Index c = 0; c < view_.cols; ++c) {
        set_element(view_, r, c, shift + scale * normal({7, stream}, r * view_.cols + c));
      }
    }
    return *this;
  }
  Sample& fill(double value) {
    for (Index r = 0; r < view_.rows; ++r) {
      for (Index c = 0; c < view_.cols; ++c) set_element(view_, r, c, value);
    }
    return *this;
  }

  operator Matrix() { return view_; }
  operator ConstMatrix() const { return view_; }
  Matrix view() { return view_; }
  ConstMatrix view() const { return view_; }
  double operator()(Index r, Index c) const { return element(view_, r, c); }
  // Every byte, gaps included: equal images are equal results, bit for bit.
  const std::vector<std::byte>& image() const { return whole_; }

 private:
  std::vector<std::byte> whole_;
  Matrix view_;
};

// |found - expected| <= bound(r, c) everywhere; reports the worst element only.
inline void expect_close(const ConstMatrix& found, const Doubles& expected,
                         const std::function<double(Index, Index)>& bound, const char* what) {
  ASSERT_EQ(found.rows, expected.rows) << what;
  ASSERT_EQ(found.cols, expected.cols) << what;
  double worst = 0;
  Index row = 0, col = 0;
  for (Index r = 0; r < found.rows; ++r) {
    for (Index c = 0; c < found.cols; ++c) {
      const double ratio = std::abs(element(found, r, c) - expected(r, c)) / bound(r, c);
      if (!(ratio <= worst)) worst = ratio, row = r, col = c;
    }
  }
  EXPECT_LE(worst, 1.0) << what << " (" << row << ", " << col << "): found " << element(found, row, col)
                        << ", expected " << expected(row, col) << ", bound " << bound(row, col);
}
inline void expect_close(const ConstMatrix& found, const Doubles& expected, double bound, const char* what) {
  expect_close(
      found, expected, [bound](Index, Index) { return bound; }, what);
}

// The same work with 1 and with 2 threads gives the same bytes.
inline void expect_thread_independent(const std::function<std::vector<std::byte>(Device&)>& work) {
  const auto one = make_host_device(1);
  const std::vector<std::byte> first = work(*one);
  const auto two = make_host_device(2);
  EXPECT_TRUE(first == work(*two));
}

// On meta the same work records the same calls, FLOPs and bytes as on the host, and touches no memory.
inline void expect_same_cost(Phase phase, const std::function<void(Device&)>& work) {
  const auto host = make_host_device(2), meta = make_meta_device();
  work(*host);
  work(*meta);
  const auto& found = meta->profile().entry(phase);
  const auto& expected = host->profile().entry(phase);
  EXPECT_EQ(found.flops, expected.flops);
  EXPECT_EQ(found.bytes, expected.bytes);
  EXPECT_EQ(found.calls, expected.calls);
  EXPECT_GT(expected.calls, 0);
  for (int c = 0; c < kCategoryCount; ++c) {
    const auto category = static_cast<Category>(c);
    EXPECT_EQ(meta->ledger().peak_bytes(category), host->ledger().peak_bytes(category)) << name(category);
  }
}

}  // namespace lorashard::kernels
