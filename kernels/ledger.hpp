// Every allocation by category: what is held now and the most that was held at once. Counts are bytes asked for.
#pragma once

#include <array>
#include <string>

#include "kernels/view.hpp"

namespace lorashard::kernels {

enum class Category { base, adapter, gradient, optimizer, activation, workspace, communication };
inline constexpr int kCategoryCount = 7;
const char* name(Category category);

class Ledger {
 public:
  void add(Category category, Index bytes);
  void remove(Category category, Index bytes);

  Index current_bytes(Category category) const { return current_[static_cast<int>(category)]; }
  Index peak_bytes(Category category) const { return peak_[static_cast<int>(category)]; }
  Index current_bytes() const { return total_; }
  Index peak_bytes() const { return total_peak_; }  // of the sum; at most the sum of the peaks

 private:
  std::array<Index, kCategoryCount> current_{};
  std::array<Index, kCategoryCount> peak_{};
  Index total_ = 0;
  Index total_peak_ = 0;
};

}  // namespace lorashard::kernels
