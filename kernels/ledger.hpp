// Every allocation by category: what is held now and the most that was held at once. Counts are bytes asked for.
#pragma once

#include <algorithm>
#include <array>
#include <string>

#include "kernels/view.hpp"

namespace lorashard::kernels {

enum class Category { base, adapter, gradient, optimizer, activation, workspace, communication };
inline constexpr int kCategoryCount = 7;
const char* name(Category category);

// What an activation is: token ids and labels, the residual stream, outputs of norms, queries to attention's output,
// the feed-forward part, what adapters keep (A x), gradients on their way down. What backward makes again is recomputed,
// whatever it is.
enum class ActivationKind { tokens, residual, norm, attention, mlp, adapter, gradient, recomputed, other };
inline constexpr int kActivationKindCount = 9;
const char* name(ActivationKind kind);

// Where bytes are counted.
struct Account {
  Category category = Category::workspace;
  ActivationKind kind = ActivationKind::other;  // of activations
  Account() = default;
  Account(Category c) : category(c) {}
  Account(ActivationKind k) : category(Category::activation), kind(k) {}
};

class Ledger {
 public:
  void add(const Account& account, Index bytes);
  void remove(const Account& account, Index bytes);

  Index current_bytes(Category category) const { return current_[static_cast<int>(category)]; }
  Index peak_bytes(Category category) const { return peak_[static_cast<int>(category)]; }
  // Of the activations at the moment when they were most: the kinds add up to peak_bytes(Category::activation).
  Index peak_bytes(ActivationKind kind) const { return kinds_at_peak_[static_cast<int>(kind)]; }
  Index current_bytes() const { return total_; }
  Index peak_bytes() const { return total_peak_; }  // of the sum; at most the sum of the peaks

  // Host memory on the way from or to a file, where the device's own cannot be read: one copy at a time.
  void note_host_copy(Index bytes) { largest_host_copy_ = std::max(largest_host_copy_, bytes); }
  Index largest_host_copy() const { return largest_host_copy_; }

 private:
  std::array<Index, kCategoryCount> current_{};
  std::array<Index, kCategoryCount> peak_{};
  std::array<Index, kActivationKindCount> kinds_{}, kinds_at_peak_{};
  Index total_ = 0;
  Index total_peak_ = 0;
  Index largest_host_copy_ = 0;
};

}  // namespace lorashard::kernels
