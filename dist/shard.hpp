// Which slice of a tensor a rank owns. Global and local indices are different types and never convert silently.
//
// A cut axis consists of segments (a fused qkv weight has three: q, k, v); each rank takes an even share of every
// segment, in order. A remainder goes to the first ranks, so 101 rows over 3 ranks are 34, 34, 33.
//
// A segment of `units` is not cut within one (a key/value head): a rank takes every unit that its even share reaches into,
// so that ranks hold some of them alike where their number does not divide the units. 2 units over 3 ranks: the first, both,
// the second. Of those that hold a unit the lowest owns it: it counts for totals and writes to files.
//
//   segments {4, 2, 2} over 2 ranks:
//     global  0 1 2 3 | 4 5 | 6 7
//     rank 0  0 1     | 4   | 6      local 0 1 2 3
//     rank 1      2 3 |   5 |   7    local 0 1 2 3
#pragma once

#include <utility>
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

struct Segment {
  Index extent = 0;
  Index units = 0;  // 0: elements are cut evenly
  Segment() = default;
  Segment(Index extent, Index units = 0) : extent(extent), units(units) {}
  bool operator==(const Segment&) const = default;
};

// One axis of one tensor, cut over `parts` ranks. With parts == 1, or for an axis that is not cut: one run.
class AxisCut {
 public:
  AxisCut() = default;
  AxisCut(const std::vector<Segment>& segments, int part, int parts);
  static AxisCut whole(Index extent) { return AxisCut({extent}, 0, 1); }
  // Elements [first, first + count) of an axis, as a part by themselves.
  static AxisCut range(GlobalIndex first, Index count, Index extent);

  Index global_extent() const;
  Index local_extent() const;
  // One run per segment, in order; empty runs are left out.
  const std::vector<Run>& runs() const& { return runs_; }
  std::vector<Run> runs() && { return std::move(runs_); }  // of a passing value, so that a loop may go over them
  // The same part with only those runs that this rank owns: what it writes of its local extent.
  AxisCut owned_part() const;
  // Elements of runs().
  Index run_count() const;
  // Some rank holds elements that another owns. The same on every rank.
  bool overlaps() const { return overlaps_; }
  // The run of segment s (its count may be zero).
  Run segment(int s) const;
  bool owns(GlobalIndex global) const;
  GlobalIndex to_global(LocalIndex local) const;
  LocalIndex to_local(GlobalIndex global) const;  // throws when not owned

 private:
  Index extent_ = 0;
  std::vector<Run> all_;
  std::vector<Run> runs_;
  std::vector<Run> owned_;
  bool overlaps_ = false;
};

}  // namespace lorashard::dist
