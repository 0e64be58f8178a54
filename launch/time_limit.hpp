// How long a job may still run: said by --time-left, or by Slurm. A run saves and ends before it is stopped.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

namespace lorashard::launch {

// "90s", "15m", "2h", "1d", or seconds without a unit. None for anything else.
std::optional<double> to_seconds(const std::string& text);

class TimeLimit {
 public:
  // `asked_s` seconds from now when given; otherwise until SLURM_JOB_END_TIME (seconds since 1970), which `variable`
  // looks up; otherwise none.
  using Lookup = std::function<const char*(const char*)>;
  TimeLimit(std::optional<double> asked_s, const Lookup& variable);

  // Seconds; none without a limit.
  std::optional<double> left_s() const;
  // True when another step might not leave time to save: twice the longest step and the longest save, and ten seconds.
  bool ends_before(double longest_step_s, double longest_save_s) const;

 private:
  std::optional<std::chrono::system_clock::time_point> end_;
};

}  // namespace lorashard::launch
