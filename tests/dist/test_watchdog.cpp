#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "dist/watchdog.hpp"

namespace lorashard::dist {
namespace {

using namespace std::chrono_literals;

TEST(Watchdog, NamesTheOperationThatIsWaitedOn) {
  std::promise<std::pair<std::string, double>> reported;
  const std::string axis = "tensor";
  Watchdog watchdog(0.05, [&](const std::string& operation, double seconds) {
    reported.set_value({operation, seconds});  // a second report would throw
  });
  const Watchdog::Scope scope(&watchdog, "all_reduce", axis);
  const auto [operation, seconds] = reported.get_future().get();
  EXPECT_EQ(operation, "all_reduce over axis tensor");
  EXPECT_GE(seconds, 0.05);
}

TEST(Watchdog, IsSilentWhileNothingIsInFlight) {
  std::atomic<int> reports = 0;
  const std::string axis = "data";
  {
    Watchdog watchdog(0.3, [&](const std::string&, double) { ++reports; });
    { const Watchdog::Scope scope(&watchdog, "broadcast", axis); }
    std::this_thread::sleep_for(600ms);
    const Watchdog::Scope scope(&watchdog, "barrier", axis);  // time starts anew with each operation
  }
  EXPECT_EQ(reports, 0);
}

TEST(Watchdog, LimitZeroAndNoWatchdogNeverReport) {
  std::atomic<int> reports = 0;
  const std::string axis = "data";
  {
    Watchdog off(0, [&](const std::string&, double) { ++reports; });
    const Watchdog::Scope scope(&off, "broadcast", axis), none(nullptr, "broadcast", axis);
    std::this_thread::sleep_for(50ms);
  }
  EXPECT_EQ(reports, 0);
}

}  // namespace
}  // namespace lorashard::dist
