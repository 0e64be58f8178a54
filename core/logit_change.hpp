// The largest change of any logit between two passes over the same rows with the same head: what merging into 16 bits
// does to a model's answers. The first pass keeps what the head multiplies, (rows, C) in host memory, not the logits.
#pragma once

#include <vector>

#include "core/context.hpp"

namespace lorashard::core {

class LogitChange {
 public:
  explicit LogitChange(kernels::Device& device) : device_(device) {}

  // Passes seen after this are held against the one before it. Once.
  void compare() { comparing_ = true; }
  // Told of each chunk of rows in a fixed order: logits (M, V/t) f32 = h (M, C) table^T. Takes the memory of one more
  // chunk of logits while comparing.
  void look(ConstMatrix h, ConstMatrix table, ConstMatrix logits);
  // Of all ranks. Collective.
  double largest(dist::Communicator& world) const;

 private:
  // The same extents and type as h had; contiguous.
  struct Kept {
    std::vector<std::byte> memory;
    ConstMatrix view;
  };
  kernels::Device& device_;
  bool comparing_ = false;
  std::size_t next_ = 0;
  std::vector<Kept> kept_;
  double largest_ = 0;
};

}  // namespace lorashard::core
