#include "launch/time_limit.hpp"

#include <string_view>

#include "core/option_values.hpp"

namespace lorashard::launch {

using Clock = std::chrono::system_clock;

std::optional<double> to_seconds(const std::string& text) {
  std::string_view number = core::trimmed(text);
  double unit = 1;
  if (!number.empty()) {
    const std::string_view units = "smhd";
    constexpr double seconds[] = {1, 60, 3600, 86400};
    if (const auto at = units.find(number.back()); at != std::string_view::npos) {
      unit = seconds[at];
      number.remove_suffix(1);
    }
  }
  const std::optional<double> value = core::to_real(number);
  return value && *value > 0 ? std::optional(*value * unit) : std::nullopt;
}

TimeLimit::TimeLimit(std::optional<double> asked_s, const Lookup& variable) {
  if (asked_s) {
    end_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(*asked_s));
    return;
  }
  const char* const end = variable("SLURM_JOB_END_TIME");
  if (const auto since_1970 = end ? core::to_whole(end) : std::nullopt; since_1970 && *since_1970 > 0)
    end_ = Clock::time_point(std::chrono::seconds(*since_1970));
}

std::optional<double> TimeLimit::left_s() const {
  if (!end_) return std::nullopt;
  return std::chrono::duration<double>(*end_ - Clock::now()).count();
}

bool TimeLimit::ends_before(double longest_step_s, double longest_save_s) const {
  constexpr double kSpare_s = 10;
  const std::optional<double> left = left_s();
  return left && *left < 2 * longest_step_s + 2 * longest_save_s + kSpare_s;
}

}  // namespace lorashard::launch
