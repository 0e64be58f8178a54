// Keys and values of the tokens that sequences have so far, of this rank's heads and layers: what a new token is compared with.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "core/context.hpp"

namespace lorashard::core {

class KeyValueCache {
 public:
  // Layers [first, first + count); `capacity` tokens for each of `sequences`, with G D features of this rank.
  KeyValueCache(const Context& context, Index first, Index count, Index sequences, Index capacity, Index features);

  Index sequences() const { return sequences_; }
  Index capacity() const { return capacity_; }
  Index length(Index sequence) const { return lengths_[static_cast<std::size_t>(sequence)]; }

  // What comes is one sequence from its beginning ...
  void begin_prompt(Index sequence, Index length);
  // ... or one token more for each sequence; those that are full get it in the place of their last.
  void begin_step();
  bool stepping() const { return stepping_; }
  // Sequence i goes on from what sequence from[i] has.
  void reorder(std::span<const Index> from);

  // (sequences capacity, G D), sequence b's token t in row b capacity + t.
  ConstMatrix keys(Index layer) const { return keys_[static_cast<std::size_t>(layer - first_)]; }
  ConstMatrix values(Index layer) const { return values_[static_cast<std::size_t>(layer - first_)]; }
  // In device memory, of a step: tokens of each sequence with the new one, and the new one's position.
  std::span<const std::int32_t> lengths() const { return device_lengths_->view(); }
  std::span<const std::int32_t> positions() const { return device_positions_->view(); }
  // Rows of what came: one for each token of the prompt, or one for each sequence.
  void keep(Index layer, ConstMatrix keys, ConstMatrix values);

 private:
  void move_rows(Tensor& all, ConstMatrix rows) const;

  kernels::Device& device_;
  Index first_, sequences_, capacity_;
  std::vector<Tensor> keys_, values_;
  std::vector<Index> lengths_;
  std::optional<kernels::Integers> device_lengths_, device_positions_;
  bool stepping_ = false;
  Index prompt_ = 0;
};

}  // namespace lorashard::core
