// Ends a wait that no peer will ever answer: a thread of its own looks at what the main thread is waiting on.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace lorashard::dist {

class Watchdog {
 public:
  // on_stall(operation, seconds) is called once, on the watchdog's thread, when one operation has been waited on for
  // limit_s. No thread is started for a limit of 0.
  using OnStall = std::function<void(const std::string& operation, double seconds)>;
  Watchdog(double limit_s, OnStall on_stall);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // One operation at a time is in flight. `verb` and `axis` must outlive the scope.
  class Scope {
   public:
    Scope(Watchdog* watchdog, const char* verb, const std::string& axis) : watchdog_(watchdog) {
      if (watchdog_) watchdog_->enter(verb, axis);
    }
    ~Scope() {
      if (watchdog_) watchdog_->leave();
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Watchdog* watchdog_;
  };

 private:
  using Clock = std::chrono::system_clock;  // waits on the steady clock escape GCC 12's thread sanitizer

  void enter(const char* verb, const std::string& axis);
  void leave();
  void watch();

  const std::chrono::duration<double> limit_;
  const OnStall on_stall_;
  std::mutex mutex_;
  std::condition_variable stopping_;
  bool stop_ = false;
  const char* verb_ = nullptr;  // null while nothing is in flight
  const std::string* axis_ = nullptr;
  std::chrono::steady_clock::time_point since_;
  std::thread thread_;
};

}  // namespace lorashard::dist
