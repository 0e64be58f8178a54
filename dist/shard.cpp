#include "dist/shard.hpp"

#include <algorithm>
#include <numeric>

namespace lorashard::dist {

using kernels::fail;
using kernels::Failure;
using kernels::text;

Share even_share(Index extent, int part, int parts) {
  if (extent < 0 || part < 0 || part >= parts)
    fail(Failure::other,
         text("share ", part, " of ", parts, " of an extent of ", extent, ": expected 0 <= part < parts"));
  const Index base = extent / parts;
  const Index rest = extent % parts;
  return {part * base + std::min<Index>(part, rest), base + (part < rest ? 1 : 0)};
}

AxisCut::AxisCut(std::vector<Index> segments, int part, int parts) : segments_(std::move(segments)) {
  Index global = 0;
  Index local = 0;
  for (const Index extent : segments_) {
    const Share share = even_share(extent, part, parts);
    all_.push_back({{global + share.first}, {local}, share.count});
    global += extent;
    local += share.count;
  }
  std::copy_if(all_.begin(), all_.end(), std::back_inserter(runs_), [](const Run& run) { return run.count > 0; });
}

Index AxisCut::global_extent() const { return std::accumulate(segments_.begin(), segments_.end(), Index{0}); }

Index AxisCut::local_extent() const { return all_.empty() ? 0 : all_.back().local.value + all_.back().count; }

Run AxisCut::segment(int s) const {
  if (s < 0 || s >= static_cast<int>(all_.size()))
    fail(Failure::other, text("segment ", s, " of an axis of ", all_.size(), " segments"));
  return all_[s];
}

bool AxisCut::owns(GlobalIndex global) const {
  return std::any_of(runs_.begin(), runs_.end(), [&](const Run& run) {
    return global >= run.global && global.value < run.global.value + run.count;
  });
}

GlobalIndex AxisCut::to_global(LocalIndex local) const {
  for (const Run& run : runs_)
    if (local >= run.local && local.value < run.local.value + run.count)
      return {run.global.value + (local.value - run.local.value)};
  fail(Failure::other, text("local index ", local.value, " lies outside the local extent ", local_extent()));
}

LocalIndex AxisCut::to_local(GlobalIndex global) const {
  for (const Run& run : runs_)
    if (global >= run.global && global.value < run.global.value + run.count)
      return {run.local.value + (global.value - run.global.value)};
  fail(Failure::other, text("global index ", global.value, " of ", global_extent(), " is not owned by this rank"));
}

}  // namespace lorashard::dist
