// Stacked bars in rows, with an axis below and a limit across.
#include <algorithm>

#include "kernels/error.hpp"
#include "launch/report_parts.hpp"

namespace lorashard::launch {

using kernels::text;

namespace {

// px
struct RowSize {
  double row, bar;
  double top() const { return (row - bar) / 2; }
};

// More rows than this are drawn and written closer.
constexpr std::size_t kDense = 16;

RowSize size_of(const Bars& bars) { return bars.rows.size() > kDense ? RowSize{15, 10} : RowSize{24, 14}; }

double length(const Source& source, const BarRow& row) {
  double sum = 0;
  for (const Segment& segment : row.segments) sum += source.value_or_zero(segment.figure);
  return row.mark.at.empty() ? sum : std::max(sum, source.value_or_zero(row.mark));
}

std::string segments_svg(const Source& source, const BarRow& row, const Axis& axis, const RowSize& size) {
  std::string svg;
  double from = 0;
  for (const Segment& segment : row.segments) {
    const double value = source.value_or_zero(segment.figure);
    if (!(value > 0)) continue;
    svg +=
        text("<rect class=\"bar ", segment.color, '"', attributes(segment.figure), " x=\"", percent(axis.share(from)),
             "\" width=\"", percent(axis.share(value)), "\" y=\"", size.top(), "\" height=\"", size.bar, "\"><title>",
             segment.name, ": ", escaped(source.text(segment.figure)), "</title></rect>");
    from += value;
    // A gap in the colour of the paper between neighbours, which takes nothing from the length of either.
    svg += text("<line class=\"gap\" x1=\"", percent(axis.share(from)), "\" x2=\"", percent(axis.share(from)),
                "\" y1=\"", size.top(), "\" y2=\"", size.top() + size.bar, "\"/>");
  }
  return svg;
}

std::string place_svg(const Source& source, const Figure& figure, const Axis& axis, const RowSize& size,
                      const char* kind) {
  const std::optional<double> value = figure.at.empty() ? std::nullopt : source.value(figure);
  if (!value) return "";
  const std::string x = percent(axis.share(*value));
  const bool mark = std::string(kind) == "mark";
  return text("<line class=\"", kind, '"', attributes(figure), " x1=\"", x, "\" x2=\"", x, "\" y1=\"",
              mark ? size.top() - 3 : 0, "\" y2=\"", mark ? size.row - size.top() + 3 : size.row, "\"/>");
}

}  // namespace

std::string html(const Source& source, const Bars& bars) {
  double high = bars.limit.at.empty() ? 0 : source.value_or_zero(bars.limit);
  for (const BarRow& row : bars.rows) high = std::max(high, length(source, row));
  if (!(high > 0)) return "";
  const Axis axis = axis_from_zero(1.02 * high, bars.as);
  const RowSize size = size_of(bars);
  std::string lines = text("<table class=\"bars", bars.rows.size() > kDense ? " dense" : "", "\" data-chart=\"bars\">");
  if (!bars.limit.at.empty() && source.value(bars.limit)) {
    const double share = axis.share(*source.value(bars.limit));
    lines += text("<tr><th></th><td><svg height=\"18\"><text class=\"limit-name ", share > 0.5 ? "end" : "start",
                  "\" y=\"13\" x=\"", percent(share), "\">", bars.limit_name, " <tspan class=\"figure\"",
                  attributes(bars.limit), '>', source.text(bars.limit), "</tspan></text></svg></td><td></td></tr>");
  }
  for (const BarRow& row : bars.rows) {
    lines += text("<tr><th scope=\"row\">", row.head, "</th><td><svg height=\"", size.row, "\">");
    for (const Tick& tick : axis.ticks)
      lines += text("<line class=\"grid\" x1=\"", percent(axis.share(tick.value)), "\" x2=\"",
                    percent(axis.share(tick.value)), "\" y1=\"0\" y2=\"", size.row, "\"/>");
    lines += segments_svg(source, row, axis, size) + place_svg(source, bars.limit, axis, size, "limit") +
             place_svg(source, row.mark, axis, size, "mark");
    lines += text("</svg></td><td class=\"end\">", source.html(row.end), "</td></tr>\n");
  }
  return text(lines, "<tr><th class=\"axis-name\">", bars.axis_name, "</th><td><svg height=\"20\">",
              ticks_across(axis, 4, 4), "</svg></td><td></td></tr></table>\n");
}

std::string columns_of(const Source& source, const Bars& bars, const std::string& corner, const Palette& palette) {
  std::vector<std::string> names;
  for (const BarRow& row : bars.rows)
    for (const Segment& segment : row.segments)
      if (std::find(names.begin(), names.end(), segment.name) == names.end()) names.push_back(segment.name);
  Table table{{corner}, {}};
  for (const std::string& name : names) table.head.push_back(swatch(palette[name]) + escaped(name));
  table.head.push_back("together");
  for (const BarRow& row : bars.rows) {
    table.rows.push_back({row.head});
    for (const std::string& name : names) {
      const auto at = std::find_if(row.segments.begin(), row.segments.end(),
                                   [&](const Segment& segment) { return segment.name == name; });
      table.rows.back().push_back(at == row.segments.end() ? "" : source.html(at->figure));
    }
    table.rows.back().push_back(source.html(row.end));
  }
  return html(table);
}

}  // namespace lorashard::launch
