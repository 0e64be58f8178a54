// What tests of the cuda device share: the device, samples on it, and the host's meaning of the same call to compare with.
//
// A test is a function of a Device; its operands are made by a Pair: the same seeded values in host memory and on the cuda
// device, with the same strides. It runs on both, and the results are compared within a bound.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "tests/kernels/samples.hpp"

namespace lorashard::kernels {

// GPU 0, or the emulated one. Tests begin with: SKIP_WITHOUT_GPU();
inline Device& cuda() {
  static const std::unique_ptr<Device> device = make_cuda_device(0);
  return *device;
}
inline Device& host() {
  static const std::unique_ptr<Device> device = make_host_device(2);
  return *device;
}
#define SKIP_WITHOUT_GPU() \
  if (cuda_device_count() == 0) GTEST_SKIP() << "no GPU here; " << cuda_build()

// Failure and message of what `work` throws.
inline std::pair<Failure, std::string> refusal_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return {error.failure(), error.what()};
  }
  ADD_FAILURE() << "nothing was refused";
  return {};
}

// A matrix on both devices. `on(device)` is its view there; from_cuda() is a copy of what the cuda device holds now.
class Pair {
 public:
  Pair(DType dtype, Index rows, Index cols, Index gap = 0)
      : host_(dtype, rows, cols, gap), back_(dtype, rows, cols),
        device_(cuda(), Category::workspace, dtype, rows, cols + gap) {}
  Pair& normals(std::uint64_t stream, double scale = 1.0, double shift = 0.0) {
    host_.normals(stream, scale, shift);
    return send();
  }
  Pair& fill(double value) {
    host_.fill(value);
    return send();
  }
  // After host() was written by hand.
  Pair& send() {
    upload(cuda(), ConstMatrix(host_), on(cuda()));
    return *this;
  }
  Sample& host() { return host_; }
  Matrix on(Device& device) {
    if (device.kind() == DeviceKind::host) return host_;
    return device_.view().col_range(0, host_.view().cols);
  }
  ConstMatrix from_cuda() {
    download(cuda(), on(cuda()), back_);
    return back_.view();
  }

 private:
  Sample host_, back_;
  Tensor device_;
};

}  // namespace lorashard::kernels
