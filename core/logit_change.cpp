#include "core/logit_change.hpp"

#include <algorithm>

#include "kernels/elementwise.hpp"
#include "kernels/gemm.hpp"
#include "kernels/loss.hpp"

namespace lorashard::core {

using kernels::fail;
using kernels::Failure;

void LogitChange::look(ConstMatrix h, ConstMatrix table, ConstMatrix logits) {
  if (device_.meta()) return;
  if (!comparing_) {
    Kept& kept = kept_.emplace_back();
    kept.memory.resize(static_cast<std::size_t>(h.bytes()));
    const Matrix copy(kept.memory.data(), h.dtype, h.rows, h.cols, h.cols);
    download(device_, h, copy);
    kept.view = copy;
    return;
  }
  if (next_ == kept_.size() || kept_[next_].view.rows != h.rows || kept_[next_].view.dtype != h.dtype)
    fail(Failure::other, "logits are compared with those of other rows");
  Tensor before(device_, Category::workspace, h.dtype, h.rows, h.cols);
  upload(device_, kept_[next_++].view, before);
  Tensor change(device_, Category::workspace, DType::f32, logits.rows, logits.cols);
  Tensor maximum(device_, Category::workspace, DType::f32, logits.rows, 1);
  std::vector<float> rows(static_cast<std::size_t>(logits.rows));
  for (const float sign : {1.0f, -1.0f}) {  // there is a maximum, and no absolute value, among the operations
    kernels::gemm(device_, {.a = before, .b = table, .c = change, .transpose_b = true, .alpha = sign});
    kernels::add(device_, logits, change, -sign);
    kernels::shard_maximum(device_, change, maximum);
    download(device_, maximum, kernels::view(rows.data(), logits.rows, 1));
    for (const float row : rows) largest_ = std::max<double>(largest_, row);
  }
}

double LogitChange::largest(dist::Communicator& world) const {
  double largest = 0;
  for (const double of_rank : world.gather_values(std::vector<double>{largest_})) largest = std::max(largest, of_rank);
  return largest;
}

}  // namespace lorashard::core
