// A small f64 matrix on the cuda device, for totals and a step's control.
#pragma once

#include "on_device.hpp"

namespace lorashard::kernels {

class Totals {
 public:
  Totals(Index rows, Index cols, std::vector<double> values)
      : values_(std::move(values)), device_(cuda(), Category::workspace, DType::f64, rows, cols) {
    upload(cuda(), view(values_.data(), rows, cols), device_);
  }
  Matrix on(Device& device) {
    return device.kind() == DeviceKind::host ? view(values_.data(), device_.rows(), device_.cols()) : device_.view();
  }
  const std::vector<double>& on_host() const { return values_; }
  std::vector<double> from_cuda() {
    std::vector<double> result(values_.size());
    download(cuda(), device_, view(result.data(), device_.rows(), device_.cols()));
    return result;
  }

 private:
  std::vector<double> values_;
  Tensor device_;
};

}  // namespace lorashard::kernels
