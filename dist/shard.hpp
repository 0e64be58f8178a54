// Which slice of a tensor a rank owns. Global and local indices are different types and never convert silently.
//
// A cut axis consists of segments (a fused qkv weight has three: q, k, v); each rank takes an even share of every
// segment, in order. A remainder goes to the first ranks, so 101 rows over 3 ranks are 34, 34, 33.
//
//   segments {4, 2, 2} over 2 ranks:
//     global  0 1 2 3 | 4 5 | 6 7
//     rank 0  0 1     | 4   | 6      local 0 1 2 3
//     rank 1      2 3 |   5 |   7    local 0 1 2 3
#pragma once

#include <vector>

#include "kernels/view.hpp"

namespace lorashard::dist {

using kernels::Index;

struct GlobalIndex {
  Index value = 0;
  auto operator<=>(const GlobalIndex&) const = default;
};
struct LocalIndex {
  Index value = 0;
  auto operator<=>(const LocalIndex&) const = default;
};

// A contiguous run: `count` elements that start at `global` in the whole and at `local` in this rank's part.
struct Run {
  GlobalIndex global;
  LocalIndex local;
  Index count = 0;
};

// Share `part` of `parts` of [0, extent).
struct Share {
  Index first = 0;
  Index count = 0;
};
Share even_share(Index extent, int part, int parts);

// One axis of one tensor, cut over `parts` ranks. With parts == 1, or for an axis that is not cut: one run.
class AxisCut {
 public:
  AxisCut() = default;
  AxisCut(std::vector<Index> segments, int part, int parts);
  static AxisCut whole(Index extent) { return AxisCut({extent}, 0, 1); }

  Index global_extent() const;
  Index local_extent() const;
  // One run per segment, in order; empty runs are left out.
  const std::vector<Run>& runs() const { return runs_; }
  // The run of segment s (its count may be zero).
  Run segment(int s) const;
  bool owns(GlobalIndex global) const;
  GlobalIndex to_global(LocalIndex local) const;
  LocalIndex to_local(GlobalIndex global) const;  // throws when not owned

 private:
  std::vector<Index> segments_;
  std::vector<Run> all_;
  std::vector<Run> runs_;
};

}  // namespace lorashard::dist
