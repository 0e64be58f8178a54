// Ends a wait that no peer will ever answer: a thread of its own looks at what the main thread is waiting on, and at
// what is queued on a GPU, where the main thread may wait in any call of CUDA or not at all.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
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

  // The oldest operation that a probe finds unfinished. No verb: nothing is in flight. The number tells it from the one
  // before it.
  struct InFlight {
    const char* verb = nullptr;
    std::uint64_t number = 0;
  };
  // `probe` is called on the watchdog's thread, several times within the limit, and must neither block nor throw; an
  // operation that it finds for limit_s is a stall. After remove_probe returned it is not running.
  void add_probe(const void* owner, const std::string& axis, std::function<InFlight()> probe);
  void remove_probe(const void* owner);

 private:
  using Clock = std::chrono::system_clock;  // waits on the steady clock escape GCC 12's thread sanitizer

  void enter(const char* verb, const std::string& axis);
  void leave();
  void watch();
  // Both call on_stall, and say so.
  bool stalled_here();
  bool stalled_in_a_probe();

  struct Probe {
    const void* owner;
    std::string axis;
    std::function<InFlight()> look;
    std::uint64_t number = 0;  // of the operation that was found
    std::chrono::steady_clock::time_point since = {};
  };

  const std::chrono::duration<double> limit_;
  const OnStall on_stall_;
  std::mutex mutex_;
  std::condition_variable stopping_;
  bool stop_ = false;
  const char* verb_ = nullptr;  // null while nothing is in flight
  const std::string* axis_ = nullptr;
  std::chrono::steady_clock::time_point since_;
  std::mutex probing_;
  std::list<Probe> probes_;
  std::thread thread_;
};

}  // namespace lorashard::dist
