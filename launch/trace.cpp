#include "launch/trace.hpp"

#include <boost/json.hpp>

#include "kernels/error.hpp"

namespace lorashard::launch {

using boost::json::array;
using boost::json::object;
using kernels::text;

namespace {

constexpr int kMostLanes = 256;

std::string name_of(const core::Span& span) {
  if (span.work != "forward" && span.work != "backward") return span.work;
  return span.part == 0 ? text(span.work, " ", span.number) : text(span.work, " ", span.number, ".", span.part);
}

}  // namespace

std::string chrome_trace(const std::vector<Lane>& lanes) {
  array events;
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    const auto lane = static_cast<std::int64_t>(i);
    events.push_back(
        object{{"ph", "M"}, {"name", "thread_name"}, {"pid", 0}, {"tid", lane}, {"args", {{"name", lanes[i].name}}}});
    for (const core::Span& span : lanes[i].spans)
      events.push_back(object{{"ph", "X"},
                              {"name", name_of(span)},
                              {"cat", span.work},
                              {"pid", 0},
                              {"tid", lane},
                              {"ts", 1e6 * span.start_s},
                              {"dur", 1e6 * (span.end_s - span.start_s)}});
  }
  return boost::json::serialize(object{{"traceEvents", events}, {"displayTimeUnit", "ms"}}) + "\n";
}

std::string lane_name(const dist::MeshExtents& extents, int rank) {
  return text("rank ", rank, ", stage ", dist::point_of(extents, rank).pipeline);
}

std::vector<Lane> lanes_of(const core::StepTime& time, const dist::MeshExtents& extents) {
  std::vector<Lane> lanes;
  if (extents.ranks() > kMostLanes) {
    for (std::size_t stage = 0; stage < time.lanes.size(); ++stage)
      lanes.push_back({text("ranks of stage ", stage), time.lanes[stage]});
    return lanes;
  }
  for (int rank = 0; rank < extents.ranks(); ++rank)
    lanes.push_back({lane_name(extents, rank), time.lanes[dist::point_of(extents, rank).pipeline]});
  return lanes;
}

}  // namespace lorashard::launch
