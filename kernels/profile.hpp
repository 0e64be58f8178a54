// Where the time went and what the work was, by phase. Each operation states its FLOPs and the bytes it must move
// (inputs read once, outputs written once); the same numbers feed the plan, the live utilisation and the roofline.
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <map>

#include "kernels/place.hpp"
#include "kernels/view.hpp"

namespace lorashard::kernels {

// tensor, pipeline and data: traffic over those axes, the wait for peers included. Sums over several axes count as data.
enum class Phase {
  matmul, adapter, attention, elementwise, loss, tensor, pipeline, data, optimizer, input, checkpoint, other
};
inline constexpr int kPhaseCount = 12;
const char* name(Phase phase);

struct Cost {
  double flops = 0;
  double bytes = 0;
};

// A product of (m, k) by (k, n) operands of one type; a mixed product counts as f32.
struct ProductShape {
  Index m = 0, n = 0, k = 0;
  DType dtype = DType::f32;
  auto operator<=>(const ProductShape&) const = default;
};

// Measures phases on a device that works off a queue, where the host's clock says nothing about an operation.
class PhaseClock {
 public:
  virtual ~PhaseClock() = default;
  // What is queued from now on belongs to `phase`.
  virtual void begin(Phase phase) = 0;
  // Forgets what was not yet added to the profile.
  virtual void restart() = 0;
};

// The name of work that repeats what the forward pass had done.
inline constexpr const char* kAgain = "again";

// Told of what a device counts, in the order of the program: a plan's clock, a run's trace.
class Observer {
 public:
  virtual ~Observer() = default;
  // `product`: the shape of a matrix product, null for every other operation.
  virtual void operation(Phase phase, const Cost& cost, const ProductShape* product) = 0;
  // What follows, until the matching leave(), is named work: "forward" number 3 of part 1. It nests: within "backward",
  // kAgain is what was done before.
  virtual void enter(const char* work, int number, int part) = 0;
  virtual void leave() = 0;
};

// Time always belongs to exactly one phase (the innermost one entered), so the phases add up to the wall time. With a
// PhaseClock it is the device's time, and belongs to the phase of the operation that was queued last.
class Profile {
 public:
  struct Entry {
    double seconds = 0;
    double flops = 0;
    double bytes = 0;
    double sent_bytes = 0;  // handed to a collective or a send by this rank
    Index calls = 0;
  };

  const Entry& entry(Phase phase) const { return entries_[static_cast<int>(phase)]; }
  void record(Phase phase, Cost cost, const ProductShape* product = nullptr);
  void record_sent(Phase phase, double bytes);
  // Calls of each distinct product of Phase::matmul, from which `bench` weighs the library's own speed.
  const std::map<ProductShape, Index>& products() const { return products_; }
  // Makes `phase` the one that time belongs to; returns the one before.
  Phase enter(Phase phase);
  // Starts again at zero.
  void reset();
  // From now on seconds come from `clock` (which outlives this) through add_seconds.
  void measure_with(PhaseClock& clock) { clock_ = &clock; }
  void add_seconds(Phase phase, double seconds) { entries_[static_cast<int>(phase)].seconds += seconds; }
  // From now on `observer` (null: nobody) is told; it outlives its time here.
  void tell(Observer* observer) { observer_ = observer; }
  Observer* observer() const { return observer_; }
  // Within work called kAgain.
  bool again() const { return again_ > 0; }
  // Where the program is. From show_place on it stands in `shared`, which outlives this.
  Place& place() { return *place_; }
  void show_place(Place& shared) { place_ = &shared; }

 private:
  friend class WorkScope;
  using Clock = std::chrono::steady_clock;
  std::array<Entry, kPhaseCount> entries_{};
  std::map<ProductShape, Index> products_;
  Phase current_ = Phase::other;
  Clock::time_point since_ = Clock::now();
  PhaseClock* clock_ = nullptr;
  Observer* observer_ = nullptr;
  int again_ = 0;
  Place own_place_;
  Place* place_ = &own_place_;
};

// Names the work of a scope, in the profile's place and to its observer.
class WorkScope {
 public:
  WorkScope(Profile& profile, const char* work, int number = 0, int part = 0)
      : profile_(profile),
        observer_(profile.observer()),
        again_(work == kAgain),
        work_(profile.place().work, again_ ? profile.place().work.load(std::memory_order_relaxed) : work),
        microbatch_(profile.place().microbatch,
                    again_ ? profile.place().microbatch.load(std::memory_order_relaxed) : number) {
    profile_.again_ += again_;
    if (observer_ != nullptr) observer_->enter(work, number, part);
  }
  ~WorkScope() {
    if (observer_ != nullptr) observer_->leave();
    profile_.again_ -= again_;
  }
  WorkScope(const WorkScope&) = delete;
  WorkScope& operator=(const WorkScope&) = delete;

 private:
  Profile& profile_;
  Observer* observer_;
  bool again_;
  AtPlace<const char*> work_;
  AtPlace<std::int64_t> microbatch_;
};

// Attributes the time of a scope to a phase.
class PhaseScope {
 public:
  PhaseScope(Profile& profile, Phase phase) : profile_(profile), before_(profile.enter(phase)) {}
  ~PhaseScope() { profile_.enter(before_); }
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  Profile& profile_;
  Phase before_;
};

}  // namespace lorashard::kernels
