// Inline SVG whose lengths across are percents of its own width: it fits any screen and any sheet, and letters keep
// their size. Lengths down are pixels.
#pragma once

#include <string>
#include <vector>

namespace lorashard::launch {

struct Tick {
  double value = 0;
  std::string text;
};

// The values shown from one end of an axis to the other.
struct Axis {
  double low = 0, high = 1;
  bool log = false;
  std::vector<Tick> ticks;

  double share(double value) const;  // 0 at low, 1 at high
};

// Bytes in steps of their unit, other values in steps of 1, 2 or 5 of a power of ten; `as` as in formatted().
Axis axis_from_zero(double high, const std::string& as);
// Wider than the values, to whole ticks.
Axis axis_around(double low, double high, const std::string& as);
// Ticks at powers of two, or at 1, 2 and 5 of each power of ten.
Axis log_axis(double low, double high, bool of_two);

// 0.25 -> "25%".
std::string percent(double share);
// ` data-tick="3"`, in full: what a test holds the place and the text of a tick against.
std::string tick_attribute(const Tick& tick);

// The ticks below an axis across, each with a rule of `rule_height` above it.
std::string ticks_across(const Axis& axis, double top, double rule_height);

}  // namespace lorashard::launch
