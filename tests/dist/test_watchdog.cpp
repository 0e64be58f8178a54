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

TEST(Watchdog, NamesWhatAProbeFindsInFlight) {
  std::promise<std::string> reported;
  Watchdog watchdog(0.05, [&](const std::string& operation, double) { reported.set_value(operation); });
  watchdog.add_probe(&reported, "data", [] { return Watchdog::InFlight{"reduce_scatter", 7}; });
  EXPECT_EQ(reported.get_future().get(), "reduce_scatter over axis data");
}

TEST(Watchdog, ProbesThatMoveOnAreHealthy) {
  std::atomic<int> reports = 0;
  std::atomic<std::uint64_t> looks = 0;
  Watchdog watchdog(0.2, [&](const std::string&, double) { ++reports; });
  watchdog.add_probe(&reports, "data", [&] { return Watchdog::InFlight{"send", ++looks}; });  // each time another one
  watchdog.add_probe(&looks, "tensor", [] { return Watchdog::InFlight{}; });
  std::this_thread::sleep_for(500ms);
  watchdog.remove_probe(&reports);
  watchdog.remove_probe(&looks);
  const std::uint64_t before = looks;
  EXPECT_GT(before, 0u);
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(looks, before);
  EXPECT_EQ(reports, 0);
}

}  // namespace
}  // namespace lorashard::dist
