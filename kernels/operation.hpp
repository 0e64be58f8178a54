// What the first lines of every operation share: checks that name both sides, and the work counted in its phase.
#pragma once

#include "kernels/device.hpp"

namespace lorashard::kernels {

// "gelu: y is 3x5, expected 3x4".
inline void expect_extents(const char* operation, const char* operand, const ConstMatrix& m, Index rows, Index cols) {
  if (m.rows != rows || m.cols != cols) {
    fail(Failure::configuration, text(operation, ": ", operand, " is ", extents(m), ", expected ", rows, "x", cols));
  }
}

// "layer_norm: statistics is bf16, expected fp32".
inline void expect_dtype(const char* operation, const char* operand, const ConstMatrix& m, DType dtype) {
  if (m.dtype != dtype) {
    fail(Failure::configuration, text(operation, ": ", operand, " is ", name(m.dtype), ", expected ", name(dtype)));
  }
}

inline void expect_f32(const char* operation, const char* operand, const ConstMatrix& m, Index rows, Index cols) {
  expect_extents(operation, operand, m, rows, cols);
  expect_dtype(operation, operand, m, DType::f32);
}

inline void expect_f64(const char* operation, const char* operand, const ConstMatrix& m, Index rows, Index cols) {
  expect_extents(operation, operand, m, rows, cols);
  expect_dtype(operation, operand, m, DType::f64);
}

// FLOPs of an element of gelu and of its backward, an exponential counted as ten.
inline constexpr double kGeluFlops = 20, kGeluBackwardFlops = 30;
// Of a result of swiglu, and of its two gradients together.
inline constexpr double kSwigluFlops = 14, kSwigluBackwardFlops = 22;

// One operation in flight: its cost is recorded at once, its time until the end of the scope.
class Operation {
 public:
  Operation(Device& device, Phase phase, Cost cost)
      : scope_(device.profile(), phase), kind_(device.kind()) {
    device.profile().record(phase, cost);
  }
  // Neither on meta, where recording was all there is to do.
  bool host() const { return kind_ == DeviceKind::host; }
  bool cuda() const { return kind_ == DeviceKind::cuda; }

 private:
  PhaseScope scope_;
  DeviceKind kind_;
};

// Scratch of an operation's cuda meaning; nothing where a plan or a run is for another device.
inline Buffer cuda_scratch(Device& device, Index bytes) {
  return Buffer(device, Category::workspace, device.target() == DeviceKind::cuda ? bytes : 0);
}

// Bytes of operands that are each read or written once.
template <class... M>
double moved_bytes(const M&... operands) {
  return (0.0 + ... + static_cast<double>(operands.bytes()));
}

}  // namespace lorashard::kernels
