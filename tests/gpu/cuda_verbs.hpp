// What tests of communicators on the cuda device share: this rank's GPU, values that go there and come back, and a group of
// all ranks.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "dist/mesh.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::dist {

using kernels::Category;
using kernels::Device;
using kernels::DType;
using kernels::Tensor;
using kernels::text;

// This rank's GPU.
inline Device& device() {
  static const std::unique_ptr<Device> own =
      kernels::make_cuda_device(runtime().gpu(kernels::cuda_device_count(), false));
  return *own;
}

template <class T>
Tensor put(const std::vector<T>& values, Index rows = 1) {
  const Index cols = std::ssize(values) / rows;
  Tensor tensor(device(), Category::activation, kernels::dtype_of<T>, rows, cols);
  upload(device(), {reinterpret_cast<const std::byte*>(values.data()), tensor.dtype(), rows, cols, cols}, tensor);
  return tensor;
}

template <class T>
std::vector<T> get(const ConstMatrix& data) {
  std::vector<T> values(data.count());
  download(device(), data, {reinterpret_cast<std::byte*>(values.data()), data.dtype, data.rows, data.cols, data.cols});
  return values;
}

// Values of which sums over few ranks are exact.
inline std::vector<float> numbers(Index n, Index factor) {
  std::vector<float> values(n);
  for (Index i = 0; i < n; ++i) values[i] = static_cast<float>(factor * (i % 100 + 1));
  return values;
}

inline Index triangle(Index n) { return n * (n + 1) / 2; }

class CudaVerbs : public testing::Test {
 protected:
  void SetUp() override {
    if (kernels::cuda_device_count() < runtime().local_size())
      GTEST_SKIP() << "a GPU for each of " << runtime().local_size() << " ranks is needed, here are "
                   << kernels::cuda_device_count() << "; " << kernels::cuda_build();
    mesh_ = runtime().make_sub_mesh(device(), {1, runtime().size(), 1});
    group_ = &mesh_->pipeline();
  }
  int rank() const { return group_->rank(); }
  int size() const { return group_->size(); }
  int next() const { return (rank() + 1) % size(); }
  int before() const { return (rank() + size() - 1) % size(); }

  std::unique_ptr<Mesh> mesh_;
  Communicator* group_ = nullptr;  // all ranks, with messages
};

}  // namespace lorashard::dist
