#include "launch/trace.hpp"

#include <boost/json.hpp>

#include "kernels/error.hpp"

namespace lorashard::launch {

using boost::json::array;
using boost::json::object;
using kernels::text;

namespace {

// "forward 3", "backward 3.1" of part 1; "reduce".
std::string name_of(const core::Span& span) {
  if (span.work != "forward" && span.work != "backward") return span.work;
  return span.part == 0 ? text(span.work, " ", span.number) : text(span.work, " ", span.number, ".", span.part);
}

}  // namespace

std::string chrome_trace(const core::StepTime& time) {
  array events;
  for (std::size_t stage = 0; stage < time.lanes.size(); ++stage) {
    const auto lane = static_cast<std::int64_t>(stage);
    events.push_back(object{
        {"ph", "M"}, {"name", "thread_name"}, {"pid", 0}, {"tid", lane}, {"args", {{"name", text("stage ", stage)}}}});
    for (const core::Span& span : time.lanes[stage])
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

}  // namespace lorashard::launch
