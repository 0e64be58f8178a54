#include "core/key_value_cache.hpp"

#include "kernels/elementwise.hpp"

namespace lorashard::core {

using kernels::fail;
using kernels::Failure;
using kernels::text;

KeyValueCache::KeyValueCache(const Context& context, Index first, Index count, Index sequences, Index capacity,
                             Index features)
    : device_(context.device), first_(first), sequences_(sequences), capacity_(capacity) {
  lengths_.resize(static_cast<std::size_t>(sequences));
  for (Index layer = 0; layer < count; ++layer)
    for (std::vector<Tensor>* all : {&keys_, &values_}) {
      all->emplace_back(device_, ActivationKind::attention, context.activation, sequences * capacity, features);
      kernels::fill(device_, all->back(), 0.0f);  // rows that are not there yet are multiplied by zero
    }
}

void KeyValueCache::begin_prompt(Index sequence, Index length) {
  if (length > capacity_)
    fail(Failure::other, text("a prompt of ", length, " tokens in a cache for ", capacity_));
  stepping_ = false;
  prompt_ = sequence;
  lengths_[static_cast<std::size_t>(sequence)] = length;
}

void KeyValueCache::begin_step() {
  stepping_ = true;
  std::vector<std::int32_t> lengths, positions;
  for (Index& length : lengths_) {
    length = std::min(length + 1, capacity_);
    lengths.push_back(static_cast<std::int32_t>(length));
    positions.push_back(static_cast<std::int32_t>(length - 1));
  }
  device_lengths_.emplace(device_, ActivationKind::tokens, lengths);
  device_positions_.emplace(device_, ActivationKind::tokens, positions);
}

void KeyValueCache::move_rows(Tensor& all, ConstMatrix rows) const {
  if (!stepping_) return kernels::copy(device_, rows, all.view().row_range(prompt_ * capacity_, rows.rows));
  for (Index b = 0; b < sequences_; ++b)
    kernels::copy(device_, rows.row_range(b, 1), all.view().row_range(b * capacity_ + length(b) - 1, 1));
}

void KeyValueCache::keep(Index layer, ConstMatrix keys, ConstMatrix values) {
  move_rows(keys_[static_cast<std::size_t>(layer - first_)], keys);
  move_rows(values_[static_cast<std::size_t>(layer - first_)], values);
}

void KeyValueCache::reorder(std::span<const Index> from) {
  bool same = true;
  for (Index b = 0; b < sequences_; ++b) same = same && from[static_cast<std::size_t>(b)] == b;
  if (same) return;
  for (std::vector<Tensor>* all : {&keys_, &values_})
    for (Tensor& now : *all) {
      Tensor before(device_, Category::workspace, now.dtype(), now.rows(), now.cols());
      kernels::copy(device_, now, before);
      for (Index b = 0; b < sequences_; ++b) {
        const Index source = from[static_cast<std::size_t>(b)];
        if (source == b || length(source) == 0) continue;
        kernels::copy(device_, before.view().row_range(source * capacity_, length(source)),
                      now.view().row_range(b * capacity_, length(source)));
      }
    }
  const std::vector<Index> before = lengths_;
  for (Index b = 0; b < sequences_; ++b)
    lengths_[static_cast<std::size_t>(b)] = before[static_cast<std::size_t>(from[static_cast<std::size_t>(b)])];
}

}  // namespace lorashard::core
