#include "dist/watchdog.hpp"

#include <algorithm>

namespace lorashard::dist {

Watchdog::Watchdog(double limit_s, OnStall on_stall) : limit_(limit_s), on_stall_(std::move(on_stall)) {
  if (limit_s > 0) thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopping_.notify_one();
  thread_.join();
}

void Watchdog::enter(const char* verb, const std::string& axis) {
  const std::lock_guard lock(mutex_);
  verb_ = verb;
  axis_ = &axis;
  since_ = std::chrono::steady_clock::now();
}

void Watchdog::leave() {
  const std::lock_guard lock(mutex_);
  verb_ = nullptr;
}

// Looks twenty times per limit, so that entering an operation costs a lock and no wake-up.
void Watchdog::watch() {
  const auto pause = std::chrono::duration_cast<Clock::duration>(std::min(limit_ / 20, decltype(limit_)(1.0)));
  std::unique_lock lock(mutex_);
  while (!stopping_.wait_until(lock, Clock::now() + pause, [this] { return stop_; })) {
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - since_;
    if (!verb_ || waited < limit_) continue;
    const std::string operation = std::string(verb_) + " over axis " + *axis_;
    lock.unlock();
    on_stall_(operation, waited.count());
    return;
  }
}

}  // namespace lorashard::dist
