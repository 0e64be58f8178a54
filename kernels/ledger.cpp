#include "kernels/ledger.hpp"

#include <algorithm>

namespace lorashard::kernels {

const char* name(Category category) {
  switch (category) {
    case Category::base:
      return "base";
    case Category::adapter:
      return "adapter";
    case Category::gradient:
      return "gradient";
    case Category::optimizer:
      return "optimizer";
    case Category::activation:
      return "activation";
    case Category::workspace:
      return "workspace";
    case Category::communication:
      return "communication";
  }
  return "?";
}

void Ledger::add(Category category, Index bytes) {
  Index& current = current_[static_cast<int>(category)];
  Index& peak = peak_[static_cast<int>(category)];
  current += bytes;
  peak = std::max(peak, current);
  total_ += bytes;
  total_peak_ = std::max(total_peak_, total_);
}

void Ledger::remove(Category category, Index bytes) {
  current_[static_cast<int>(category)] -= bytes;
  total_ -= bytes;
}

}  // namespace lorashard::kernels
