#include "launch/stop_signal.hpp"

#include <unistd.h>

#include <csignal>
#include <thread>
#include <utility>

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

void keep_stop_signals_from_work() {
  static bool kept = false;
  if (std::exchange(kept, true)) return;
  std::thread([] {
    for (;;) ::pause();
  }).detach();
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGUSR1);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

bool stop_was_asked() { return stop_asked != 0; }

}  // namespace lorashard::launch
