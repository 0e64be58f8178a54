// An operand of an operation that runs on both devices, and comparisons of what it left there.
#pragma once

#include "on_device.hpp"

namespace lorashard::kernels {

inline Matrix with_gaps(Matrix m) { return {m.data, m.dtype, m.rows, m.stride, m.stride}; }

inline std::vector<std::byte> bytes_of(const ConstMatrix& contiguous) {
  return {contiguous.data, contiguous.data + contiguous.bytes()};
}

// A Pair whose gaps hold a mark on the cuda device too, which the destructor looks for.
class Twin : public Pair {
 public:
  Twin(DType dtype, Index rows, Index cols, Index gap = 0) : Pair(dtype, rows, cols, gap) {
    upload(cuda(), with_gaps(host()), with_gaps(on(cuda())));
  }
  ~Twin() {
    const Matrix m = on(cuda());
    if (m.empty() || m.stride == m.cols) return;
    std::vector<std::byte> image(with_gaps(m).bytes());
    download(cuda(), with_gaps(m), {image.data(), m.dtype, m.rows, m.stride, m.stride});
    const Index size = size_bytes(m.dtype);
    for (Index r = 0; r < m.rows; ++r) {
      for (Index i = (r * m.stride + m.cols) * size; i < (r + 1) * m.stride * size; ++i) {
        EXPECT_EQ(image[i], std::byte{0x5a}) << "on the device, behind row " << r;
      }
    }
  }
  std::vector<std::byte> bytes() { return bytes_of(from_cuda()); }

  // Runs body(device) on both.
  template <class Body>
  static void on_both(const Body& body) {
    body(kernels::host());
    body(cuda());
  }
  // What the devices hold is the same, bit for bit.
  void expect_same(const char* what) {
    const ConstMatrix found = from_cuda(), expected = host().view();
    for (Index r = 0; r < found.rows; ++r) {
      for (Index c = 0; c < found.cols; ++c) {
        ASSERT_EQ(element(found, r, c), element(expected, r, c)) << what << " (" << r << ", " << c << ")";
      }
    }
  }
  // |device - host| <= bound(r, c).
  void expect_near(const std::function<double(Index, Index)>& bound, const char* what) {
    expect_close(from_cuda(), to_doubles(host().view()), bound, what);
  }
};

inline const DType kTypes[] = {DType::f32, DType::bf16};

}  // namespace lorashard::kernels
