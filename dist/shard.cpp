#include "dist/shard.hpp"

#include <algorithm>

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

namespace {

// Units [floor(part U / parts), ceil((part + 1) U / parts)); owned from the first that the rank below does not hold.
Share held_units(Index units, int part, int parts) {
  const Index first = part * units / parts;
  return {first, ((part + 1) * units + parts - 1) / parts - first};
}

}  // namespace

AxisCut::AxisCut(const std::vector<Segment>& segments, int part, int parts) {
  Index local = 0;
  const auto add = [](std::vector<Run>& runs, const Run& run) {
    if (run.count > 0) runs.push_back(run);
  };
  for (const auto& [extent, units] : segments) {
    Share held = even_share(extent, part, parts);
    Index lower = 0;  // of the share, the first elements that are a lower rank's
    if (units > 0) {
      if (extent % units != 0) fail(Failure::other, text(units, " units of an extent of ", extent, ": not whole"));
      held = held_units(units, part, parts);
      if (part > 0) {
        const Share below = held_units(units, part - 1, parts);
        lower = std::clamp<Index>(below.first + below.count - held.first, 0, held.count);
      }
      overlaps_ = overlaps_ || units % parts != 0;
      const Index size = extent / units;
      held = {held.first * size, held.count * size};
      lower *= size;
    }
    all_.push_back({{extent_ + held.first}, {local}, held.count});
    add(runs_, all_.back());
    add(owned_, {{extent_ + held.first + lower}, {local + lower}, held.count - lower});
    extent_ += extent;
    local += held.count;
  }
}

AxisCut AxisCut::range(GlobalIndex first, Index count, Index extent) {
  if (first.value < 0 || count < 0 || first.value > extent - count)
    fail(Failure::other, text("elements ", first.value, " to ", first.value + count, " of an extent of ", extent));
  AxisCut cut;
  cut.extent_ = extent;
  cut.all_ = {{first, {0}, count}};
  if (count > 0) cut.runs_ = cut.owned_ = cut.all_;
  return cut;
}

Index AxisCut::global_extent() const { return extent_; }

Index AxisCut::local_extent() const { return all_.empty() ? 0 : all_.back().local.value + all_.back().count; }

AxisCut AxisCut::owned_part() const {
  AxisCut part = *this;
  part.runs_ = owned_;
  return part;
}

Index AxisCut::run_count() const {
  Index count = 0;
  for (const Run& run : runs_) count += run.count;
  return count;
}

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
