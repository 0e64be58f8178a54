// Curves and points over two axes.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/error.hpp"
#include "launch/report_parts.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using kernels::text;

namespace {

struct Point {
  std::size_t index;  // in the list
  double x, y;
};

// More are thinned to every n-th: a page of a month's run stays a page.
constexpr std::size_t kMostPoints = 2000;
// From here on a smoothed line says more than the line.
constexpr std::size_t kSmoothed = 200;

std::vector<Point> points_of(const Source& source, const Series& series) {
  std::vector<Point> points;
  for (std::size_t i = 0; i < source.size(series.list); ++i) {
    const std::string element = series.list + pointer(i);
    const std::optional<double> x = source.value({element + series.x, ""}), y = source.value({element + series.y, ""});
    if (x && y) points.push_back({i, *x + series.x_plus, *y});
  }
  return points;
}

struct Frame {
  Axis x, y;
  double left(const Point& point) const { return x.share(point.x); }
  double down(const Point& point) const { return 1 - y.share(point.y); }
};

Frame frame_of(const Chart& chart, const std::vector<std::vector<Point>>& all) {
  constexpr double kFar = std::numeric_limits<double>::infinity();
  double left = kFar, right = -kFar, low = kFar, high = -kFar;
  for (const auto& points : all)
    for (const Point& point : points) {
      left = std::min(left, point.x), right = std::max(right, point.x);
      low = std::min(low, point.y), high = std::max(high, point.y);
    }
  if (chart.log) return {log_axis(left, right, true), log_axis(low, high, false)};
  return {axis_from_zero(right, chart.x_as),
          chart.from_zero ? axis_from_zero(1.05 * high, chart.y_as) : axis_around(low, high, chart.y_as)};
}

// In a picture of its own, 1000 by 1000, stretched over the frame.
std::string polyline(const Frame& frame, const std::vector<Point>& points, const std::string& attributes) {
  std::string corners;
  for (const Point& point : points)
    corners += text(corners.empty() ? "" : " ", fixed_text(1000 * frame.left(point), 2), ",",
                    fixed_text(1000 * frame.down(point), 2));
  return text("<svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\"><polyline ", attributes, " points=\"",
              corners, "\"/></svg>");
}

// Means over a window around each point, cut off at the ends.
std::vector<Point> smoothed(const std::vector<Point>& points, std::size_t window) {
  std::vector<Point> means;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const std::size_t first = i < window ? 0 : i - window, last = std::min(i + window, points.size() - 1);
    double sum = 0;
    for (std::size_t k = first; k <= last; ++k) sum += points[k].y;
    means.push_back({points[i].index, points[i].x, sum / static_cast<double>(last - first + 1)});
  }
  return means;
}

std::vector<Point> thinned(const std::vector<Point>& points, std::size_t stride) {
  std::vector<Point> kept;
  for (std::size_t i = 0; i < points.size(); i += stride) kept.push_back(points[i]);
  return kept;
}

std::string line_svg(const Frame& frame, const Series& series, const std::vector<Point>& points) {
  const std::size_t stride = (points.size() + kMostPoints - 1) / kMostPoints;
  const std::string source =
      text("data-list=\"", escaped(series.list), "\" data-x=\"", escaped(series.x), "\" data-y=\"", escaped(series.y),
           "\" data-stride=\"", stride, "\" data-x-plus=\"", series.x_plus, '"');
  if (points.size() <= kSmoothed) return polyline(frame, points, text("class=\"curve ", series.color, "\" ", source));
  const std::size_t window = points.size() / 50;
  return polyline(frame, thinned(points, stride), text("class=\"curve faint ", series.color, "\" ", source)) +
         polyline(frame, thinned(smoothed(points, window), stride),
                  text("class=\"curve ", series.color, "\" data-window=\"", window, "\" ", source));
}

std::string dots_svg(const Source& source, const Chart& chart, const Frame& frame, const Series& series,
                     const std::vector<Point>& points) {
  std::string svg;
  for (const Point& point : points) {
    const std::string element = series.list + pointer(point.index);
    const Figure value{element + series.y, chart.y_as == "seconds" ? "ms" : chart.y_as};
    svg += text("<circle class=\"dot ", series.color, "\" r=\"4.5\" cx=\"", percent(frame.left(point)), "\" cy=\"",
                percent(frame.down(point)), "\" data-x=\"", escaped(element + series.x), "\" data-x-plus=\"",
                series.x_plus, '"', attributes(value), "><title>", escaped(series.name), ": ", source.text(value),
                value.as == "ms" ? " ms" : "", "</title></circle>");
  }
  return svg;
}

std::string axes_svg(const Chart& chart, const Frame& frame) {
  std::string svg;
  for (const Tick& tick : frame.y.ticks) {
    const std::string y = percent(1 - frame.y.share(tick.value));
    svg += text("<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"", y, "\" y2=\"", y, "\"/><text class=\"tick up\"",
                tick_attribute(tick), " x=\"-8\" y=\"", y, "\" dy=\"4\">", tick.text, "</text>");
  }
  return svg + "<g class=\"across\">" + ticks_across(frame.x, chart.height + 4, 4) + "</g>";
}

}  // namespace

std::string html(const Source& source, const Chart& chart) {
  std::vector<std::vector<Point>> all;
  bool enough = false;
  for (const Series& series : chart.series) {
    all.push_back(points_of(source, series));
    if (chart.log) std::erase_if(all.back(), [](const Point& point) { return !(point.x > 0 && point.y > 0); });
    enough = enough || all.back().size() > 1;
  }
  if (!enough) return "";
  const Frame frame = frame_of(chart, all);
  std::string svg = axes_svg(chart, frame);
  std::vector<LegendEntry> named;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].empty()) continue;
    if (chart.series[i].line) svg += line_svg(frame, chart.series[i], all[i]);
    if (chart.series[i].points) svg += dots_svg(source, chart, frame, chart.series[i], all[i]);
    if (!chart.series[i].name.empty())
      named.push_back({chart.series[i].color + (chart.series[i].line ? "" : " round"), escaped(chart.series[i].name)});
  }
  return text("<figure>", legend(named), "<p class=\"axis-name\">", chart.y_name,
              "</p><svg class=\"plot\" data-chart=\"", chart.log ? "log" : "linear", "\" height=\"", chart.height,
              "\">", svg, "</svg><p class=\"axis-name across\">", chart.x_name, "</p></figure>\n");
}

}  // namespace lorashard::launch
