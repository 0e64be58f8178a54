#include "launch/stop_signal.hpp"

#include <algorithm>
#include <csignal>

namespace lorashard::launch {

namespace {
// A signal handler can reach nothing but a global.
volatile std::sig_atomic_t stop_asked = 0;
}  // namespace

void watch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { stop_asked = 1; };
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGUSR1, &action, nullptr);
}

bool stop_was_asked(dist::Communicator& world) {
  const double mine[] = {static_cast<double>(stop_asked)};
  const std::vector<double> all = world.gather_values(mine);
  return *std::max_element(all.begin(), all.end()) > 0;
}

}  // namespace lorashard::launch
