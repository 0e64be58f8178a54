#include "launch/stop_signal.hpp"

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

bool stop_was_asked() { return stop_asked != 0; }

}  // namespace lorashard::launch
