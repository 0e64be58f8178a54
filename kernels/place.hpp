// Where a rank is in its work, written by its main thread as it goes and read by whoever watches it: another process,
// when the memory is shared with one. So it has a fixed size, no owner, and words that are string literals only.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>

namespace lorashard::kernels {

struct Place {
  std::atomic<std::uint64_t> beats{0};  // rises with all that is done: one that stands still is a rank that does
  std::atomic<std::int64_t> step{-1}, layer{-1}, microbatch{-1};  // -1: none
  std::atomic<const char*> work{nullptr};       // "backward"
  std::atomic<const char*> operation{nullptr};  // the last one begun: "attention"

  void beat() { beats.store(beats.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }
};

// Sets a part of a Place for a scope. While an error unwinds it stays, so that who reports the error can say where.
template <class T>
class AtPlace {
 public:
  template <class Value>
  AtPlace(std::atomic<T>& part, Value value) : part_(part), before_(part.load(std::memory_order_relaxed)) {
    part_.store(value, std::memory_order_relaxed);
  }
  ~AtPlace() {
    if (std::uncaught_exceptions() == exceptions_) part_.store(before_, std::memory_order_relaxed);
  }
  AtPlace(const AtPlace&) = delete;
  AtPlace& operator=(const AtPlace&) = delete;
  // Moves on within the scope.
  void move(T value) { part_.store(value, std::memory_order_relaxed); }

 private:
  std::atomic<T>& part_;
  const T before_;
  const int exceptions_ = std::uncaught_exceptions();
};
template <class T, class Value>
AtPlace(std::atomic<T>&, Value) -> AtPlace<T>;

}  // namespace lorashard::kernels
