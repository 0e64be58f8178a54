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

void Watchdog::add_probe(const void* owner, const std::string& axis, std::function<InFlight()> probe) {
  const std::lock_guard lock(probing_);
  probes_.push_back({owner, axis, std::move(probe)});
}

void Watchdog::remove_probe(const void* owner) {
  const std::lock_guard lock(probing_);
  probes_.remove_if([owner](const Probe& probe) { return probe.owner == owner; });
}

// Looks twenty times per limit, so that entering an operation costs a lock and no wake-up.
void Watchdog::watch() {
  const auto pause = std::chrono::duration_cast<Clock::duration>(std::min(limit_ / 20, decltype(limit_)(1.0)));
  std::unique_lock lock(mutex_);
  while (!stopping_.wait_until(lock, Clock::now() + pause, [this] { return stop_; })) {
    lock.unlock();
    if (stalled_here() || stalled_in_a_probe()) return;
    lock.lock();
  }
}

bool Watchdog::stalled_here() {
  std::unique_lock lock(mutex_);
  const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - since_;
  if (!verb_ || waited < limit_) return false;
  const std::string operation = std::string(verb_) + " over axis " + *axis_;
  lock.unlock();
  on_stall_(operation, waited.count());
  return true;
}

bool Watchdog::stalled_in_a_probe() {
  std::unique_lock lock(probing_);
  const auto now = std::chrono::steady_clock::now();
  for (Probe& probe : probes_) {
    const InFlight found = probe.look();
    if (!found.verb || found.number != probe.number || probe.since == decltype(probe.since){}) probe.since = now;
    probe.number = found.number;
    const std::chrono::duration<double> waited = now - probe.since;
    if (!found.verb || waited < limit_) continue;
    const std::string operation = std::string(found.verb) + " over axis " + probe.axis;
    lock.unlock();
    on_stall_(operation, waited.count());
    return true;
  }
  return false;
}

}  // namespace lorashard::dist
