// How far a run is: one line that renews itself on a terminal, otherwise a plain line now and then.
#pragma once

#include <chrono>
#include <string>

#include "core/trainer.hpp"

namespace lorashard::launch {

class Progress {
 public:
  // Silent unless `speaks` (rank 0). `first` steps of `steps` were done by an earlier run.
  Progress(bool speaks, core::Index first, core::Index steps);
  ~Progress() { end_line(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void step(const core::StepReport& report, double seconds);
  // A line of its own, such as an evaluation's result.
  void say(const std::string& line);

 private:
  using Clock = std::chrono::steady_clock;
  void end_line();
  bool speaks_, terminal_;
  bool line_open_ = false;
  core::Index first_, steps_;
  double seconds_ = 0;  // of all steps of this run
  core::Index tokens_ = 0;
  Clock::time_point last_{};  // line on something that is no terminal
};

}  // namespace lorashard::launch
