#include "launch/svg.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "kernels/error.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using kernels::text;

namespace {

// About `parts` steps of 1, 2 or 5 of a power of ten.
double nice_step(double length, int parts) {
  const double raw = length / parts, power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= raw * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

std::string plain(double value, double step) {
  if (std::abs(value) < 1e-9 * step) return "0";
  const int decimals = std::max(0, static_cast<int>(std::ceil(-std::log10(step) - 1e-9)));
  if (decimals > 3) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.3g", value);
    return digits;
  }
  return decimals == 0 ? count_text(std::llround(value)) : fixed_text(value, decimals);
}

// The unit in which ticks are written, and its name.
struct Unit {
  double size = 1;
  std::string name;
};

Unit unit_of(double high, const std::string& as) {
  if (as == "bytes") {
    const char* names[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB"};
    int unit = 0;
    for (double left = high; left >= 1024 && unit < 5; left /= 1024) ++unit;
    return {std::pow(1024.0, unit), names[unit]};
  }
  if (as == "seconds") return high >= 1 ? Unit{1, " s"} : high >= 1e-3 ? Unit{1e-3, " ms"} : Unit{1e-6, " µs"};
  if (as == "tera") return {1e12, ""};
  return {};
}

std::string trimmed(double value) {
  char digits[40];
  std::snprintf(digits, sizeof digits, "%.10g", value);
  return digits;
}

Axis ticked(double low, double high, double step, const Unit& unit) {
  Axis axis{low, high, false, {}};
  for (double at = std::ceil(low / unit.size / step - 1e-9); at * step * unit.size <= high * (1 + 1e-9) + 1e-300; ++at)
    axis.ticks.push_back({at * step * unit.size, plain(at * step, step) + (at == 0 ? "" : unit.name)});
  return axis;
}

}  // namespace

double Axis::share(double value) const {
  if (log) return std::log(value / low) / std::log(high / low);
  return (value - low) / (high - low);
}

Axis axis_from_zero(double high, const std::string& as) {
  if (!(high > 0)) high = 1;
  const Unit unit = unit_of(high, as);
  double step = nice_step(high / unit.size, 7);
  if (as == "count") step = std::max(step, 1.0);
  return ticked(0, high, step, unit);
}

Axis axis_around(double low, double high, const std::string& as) {
  if (!(high > low)) high = low + std::max(1e-3, 0.1 * std::abs(low)), low -= high - low;
  const Unit unit = unit_of(high, as);
  const double step = nice_step((high - low) / unit.size, 5);
  return ticked(std::floor(low / unit.size / step) * step * unit.size,
                std::ceil(high / unit.size / step) * step * unit.size, step, unit);
}

Axis log_axis(double low, double high, bool of_two) {
  Axis axis{low, high, true, {}};
  if (of_two) {
    const int first = static_cast<int>(std::floor(std::log2(low) + 1e-9));
    const int last = std::max(static_cast<int>(std::ceil(std::log2(high) - 1e-9)), first + 1);
    for (int at = first; at <= last; ++at)
      axis.ticks.push_back({std::exp2(at), count_text(std::llround(std::exp2(at)))});
  } else {
    const int first = static_cast<int>(std::floor(std::log10(low))),
              last = static_cast<int>(std::ceil(std::log10(high)));
    for (int power = first; power <= last; ++power)
      for (const double factor : {1.0, 2.0, 5.0}) {
        const double value = factor * std::pow(10, power);
        axis.ticks.push_back({value, value >= 1000 ? count_text(std::llround(value)) : trimmed(value)});
      }
    const auto inside = [&](const Tick& tick) { return tick.value > low * (1 + 1e-9); };
    const auto from = std::find_if(axis.ticks.begin(), axis.ticks.end(), inside);
    if (from != axis.ticks.begin()) axis.ticks.erase(axis.ticks.begin(), from - 1);
    while (axis.ticks.size() > 2 && axis.ticks[axis.ticks.size() - 2].value >= high * (1 - 1e-9)) axis.ticks.pop_back();
  }
  axis.low = axis.ticks.front().value;
  axis.high = axis.ticks.back().value;
  return axis;
}

std::string percent(double share) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.4f", 100 * share);
  std::string number = digits;
  number.erase(number.find_last_not_of('0') + 1);
  if (number.back() == '.') number.pop_back();
  return number + "%";
}

std::string tick_attribute(const Tick& tick) {
  char digits[40];
  std::snprintf(digits, sizeof digits, "%.12g", tick.value);
  return text(" data-tick=\"", digits, '"');
}

std::string ticks_across(const Axis& axis, double top, double rule_height) {
  std::string svg;
  for (const Tick& tick : axis.ticks) {
    const std::string x = percent(axis.share(tick.value));
    svg += text("<line class=\"grid\" x1=\"", x, "\" x2=\"", x, "\" y1=\"", top - rule_height, "\" y2=\"", top,
                "\"/><text class=\"tick middle\"", tick_attribute(tick), " x=\"", x, "\" y=\"", top + 14, "\">",
                tick.text, "</text>");
  }
  return svg;
}

}  // namespace lorashard::launch
