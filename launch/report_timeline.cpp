// The pipeline's step, a lane for each stage.
#include <algorithm>

#include "kernels/error.hpp"
#include "launch/report_parts.hpp"

namespace lorashard::launch {

using kernels::text;

namespace {

// Widths that letters are given room for: of a screen, and of a sheet or a small screen.
constexpr double kScreen = 950, kSheet = 620;

std::string color_of(const std::string& work, double part) {
  const std::string shade = static_cast<int>(part) % 2 == 1 ? " second" : "";
  return Palette({"forward", "backward", "reduce", "update"})[work] + shade;
}

struct Lane {
  double top, height;
};

std::string span_svg(const Source& source, const std::string& span, const Axis& axis, const Lane& lane) {
  const double start_s = source.value_or_zero({span + "/start_s", ""}),
               end_s = source.value_or_zero({span + "/end_s", ""});
  const std::string work = source.string(span + "/work");
  const double width = axis.share(end_s) - axis.share(start_s);
  std::string svg = text("<rect class=\"", color_of(work, source.value_or_zero({span + "/part", ""})),
                         "\" data-span=\"", escaped(span), "\" x=\"", percent(axis.share(start_s)), "\" width=\"",
                         percent(width), "\" y=\"", lane.top, "\" height=\"", lane.height, "\"/>");
  if (work != "forward" && work != "backward") return svg;
  const Figure number{span + "/number", "count"};
  const double count = static_cast<double>(source.text(number).size()), large = 7 * count + 3, small = 5.3 * count + 1;
  if (small > kScreen * width || lane.height < 11) return svg;
  const char* size = large <= kSheet * width ? "" : large <= kScreen * width ? " tight" : " tight small";
  return svg + text("<text class=\"nth", size, '"', attributes(number), " x=\"",
                    percent(axis.share((start_s + end_s) / 2)), "\" y=\"", lane.top + lane.height / 2 + 4, "\">",
                    source.text(number), "</text>");
}

}  // namespace

std::string timeline_card(const Source& source, const std::string& plan) {
  const std::string lanes = plan + "/timeline";
  const std::size_t count = source.size(lanes);
  double end_s = source.value_or_zero({plan + "/step_s", ""});
  std::size_t spans = 0;
  bool parts = false;
  for (std::size_t stage = 0; stage < count; ++stage)
    for (std::size_t i = 0; i < source.size(lanes + pointer(stage)); ++i, ++spans) {
      end_s = std::max(end_s, source.value_or_zero({lanes + pointer(stage, i) + "/end_s", ""}));
      parts = parts || source.value_or_zero({lanes + pointer(stage, i) + "/part", ""}) > 0;
    }
  if (spans == 0) return "";
  const Axis axis = axis_from_zero(end_s, "seconds");
  const double pitch = count <= 8 ? 26 : count <= 32 ? 18 : 13;
  const double gap = count <= 8 ? 4 : count <= 32 ? 3 : 2;
  std::string svg;
  for (std::size_t stage = 0; stage < count; ++stage) {
    const Lane lane{pitch * static_cast<double>(stage), pitch - gap};
    const Figure number{lanes + pointer(stage), "key"};
    svg += text("<text class=\"up\"", attributes(number), " x=\"-8\" y=\"", lane.top + lane.height / 2 + 4, "\">",
                source.text(number), "</text><rect class=\"idle\" x=\"0\" width=\"", percent(axis.share(end_s)),
                "\" y=\"", lane.top, "\" height=\"", lane.height, "\"/>");
    for (std::size_t i = 0; i < source.size(lanes + pointer(stage)); ++i)
      svg += span_svg(source, lanes + pointer(stage, i), axis, lane);
  }
  const double height = pitch * static_cast<double>(count) - gap;
  std::vector<LegendEntry> named{{"c0", "forward"}};
  if (parts) named.push_back({"c0 second", "forward, every other part"});
  named.push_back({"c2", "backward"});
  if (parts) named.push_back({"c2 second", "backward, every other part"});
  for (const auto& entry : std::vector<LegendEntry>{{"c6", "reduce"}, {"c3", "update"}, {"idle", "idle"}})
    named.push_back(entry);
  return card(
      "A step, stage by stage",
      "One lane for each pipeline stage, in the order of the schedule. Numbers are those of the microbatches.",
      text(legend(named), "<div class=\"wide\"><div class=\"timeline\"><p class=\"axis-name\">stage</p>",
           "<svg class=\"plot\" data-chart=\"timeline\" height=\"", height, "\"><g class=\"across\">",
           ticks_across(axis, height + 4, 4), "</g>", svg, "</svg><p class=\"axis-name across\">time</p></div></div>"));
}

}  // namespace lorashard::launch
