#include "kernels/ledger.hpp"

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

const char* name(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::tokens:
      return "tokens";
    case ActivationKind::residual:
      return "residual";
    case ActivationKind::norm:
      return "norm";
    case ActivationKind::attention:
      return "attention";
    case ActivationKind::mlp:
      return "mlp";
    case ActivationKind::adapter:
      return "adapter";
    case ActivationKind::gradient:
      return "gradient";
    case ActivationKind::recomputed:
      return "recomputed";
    case ActivationKind::other:
      return "other";
  }
  return "?";
}

void Ledger::add(const Account& account, Index bytes) {
  const bool activation = account.category == Category::activation;
  if (activation) kinds_[static_cast<int>(account.kind)] += bytes;
  Index& current = current_[static_cast<int>(account.category)];
  Index& peak = peak_[static_cast<int>(account.category)];
  current += bytes;
  if (current > peak) {
    peak = current;
    if (activation) kinds_at_peak_ = kinds_;
  }
  total_ += bytes;
  total_peak_ = std::max(total_peak_, total_);
}

void Ledger::remove(const Account& account, Index bytes) {
  if (account.category == Category::activation) kinds_[static_cast<int>(account.kind)] -= bytes;
  current_[static_cast<int>(account.category)] -= bytes;
  total_ -= bytes;
}

}  // namespace lorashard::kernels
