#include "core/replicated.hpp"

namespace lorashard::core {

using kernels::fail;
using kernels::Failure;
using kernels::text;

int ReplicatedGroup::add(const std::string& name, Index rows, Index cols, bool decay, Index layer) {
  entries_.push_back({name, rows, cols, count_, decay, layer});
  count_ += rows * cols;
  return static_cast<int>(entries_.size()) - 1;
}

void ReplicatedGroup::allocate_values(kernels::Device& device, Category values) {
  if (count_ > 0) values_ = Tensor(device, values, DType::f32, 1, count_);
}

void ReplicatedGroup::allocate(kernels::Device& device, Category values) {
  if (count_ == 0) return;
  allocate_values(device, values);
  gradients_ = Tensor(device, Category::gradient, DType::f32, 1, count_);
  first_ = Tensor(device, Category::optimizer, DType::f32, 1, count_);
  second_ = Tensor(device, Category::optimizer, DType::f32, 1, count_);
}

Matrix ReplicatedGroup::slice(Tensor& flat, int entry) {
  if (flat.none()) return {};
  const Entry& e = entries_.at(entry);
  Matrix m = flat.view().col_range(e.offset, e.rows * e.cols);
  return {m.data, m.dtype, e.rows, e.cols, e.cols};
}

Matrix ReplicatedGroup::stacked(Tensor& flat, int first, int entries) {
  Matrix m = slice(flat, first);
  if (m.empty()) return m;
  for (int i = 1; i < entries; ++i) {
    const Entry& e = entries_.at(first + i);
    if (e.cols != m.cols) {
      fail(Failure::other, text("stacked tensors: ", e.name, " has ", e.cols, " columns, expected ", m.cols));
    }
    m.rows += e.rows;
  }
  return m;
}

}  // namespace lorashard::core
