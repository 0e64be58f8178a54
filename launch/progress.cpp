#include "launch/progress.hpp"

#include <cstdio>

#include "launch/machine.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using kernels::text;

namespace {
constexpr std::chrono::seconds kBetweenLines{10};
}

Progress::Progress(bool speaks, core::Index first, core::Index steps)
    : speaks_(speaks), terminal_(speaks && output_is_terminal()), first_(first), steps_(steps) {}

void Progress::step(const core::StepReport& report, double seconds) {
  seconds_ += seconds;
  tokens_ += report.tokens;
  const core::Index done = report.step + 1;
  const bool due = terminal_ || done == steps_ || Clock::now() - last_ >= kBetweenLines;
  if (!speaks_ || !due) return;
  last_ = Clock::now();
  const double each_s = seconds_ / static_cast<double>(done - first_);
  const std::string line = text("step ", done, "/", steps_, "  loss ", fixed_text(report.loss, 4), "  ",
                                count_text(static_cast<core::Index>(static_cast<double>(tokens_) / seconds_)),
                                " tokens/s  ", duration_text(each_s * static_cast<double>(steps_ - done)), " left  ",
                                bytes_text(static_cast<double>(peak_resident_bytes())));
  std::printf(terminal_ ? "\r\033[K%s" : "%s\n", line.c_str());
  line_open_ = terminal_;
  std::fflush(stdout);
}

void Progress::say(const std::string& line) {
  if (!speaks_) return;
  end_line();
  std::puts(line.c_str());
  std::fflush(stdout);
}

void Progress::end_line() {
  if (line_open_) std::putchar('\n');
  line_open_ = false;
}

}  // namespace lorashard::launch
