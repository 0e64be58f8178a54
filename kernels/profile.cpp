#include "kernels/profile.hpp"

namespace lorashard::kernels {

const char* name(Phase phase) {
  switch (phase) {
    case Phase::matmul:
      return "matmul";
    case Phase::adapter:
      return "adapter";
    case Phase::attention:
      return "attention";
    case Phase::elementwise:
      return "elementwise";
    case Phase::loss:
      return "loss";
    case Phase::tensor:
      return "tensor";
    case Phase::pipeline:
      return "pipeline";
    case Phase::data:
      return "data";
    case Phase::optimizer:
      return "optimizer";
    case Phase::input:
      return "input";
    case Phase::checkpoint:
      return "checkpoint";
    case Phase::other:
      return "other";
  }
  return "?";
}

void Profile::record(Phase phase, Cost cost, const ProductShape* product) {
  Entry& entry = entries_[static_cast<int>(phase)];
  entry.flops += cost.flops;
  entry.bytes += cost.bytes;
  ++entry.calls;
  place_->operation.store(name(phase), std::memory_order_relaxed);
  place_->beat();
  if (product != nullptr && phase == Phase::matmul) ++products_[*product];
  if (clock_ != nullptr) clock_->begin(phase);
  if (observer_ != nullptr) observer_->operation(phase, cost, product);
}

void Profile::record_sent(Phase phase, double bytes) { entries_[static_cast<int>(phase)].sent_bytes += bytes; }

Phase Profile::enter(Phase phase) {
  if (clock_ == nullptr) {
    const auto now = Clock::now();
    entries_[static_cast<int>(current_)].seconds += std::chrono::duration<double>(now - since_).count();
    since_ = now;
  }
  const Phase before = current_;
  current_ = phase;
  return before;
}

void Profile::reset() {
  entries_ = {};
  products_.clear();
  since_ = Clock::now();
  if (clock_ != nullptr) clock_->restart();
}

}  // namespace lorashard::kernels
