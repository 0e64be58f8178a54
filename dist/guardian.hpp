// A second process for each rank, its parent, which sees what the rank itself cannot say: that it was killed and where
// it was then, that it is stopped, that it makes no progress. It is what mpirun or srun started; the rank is its child.
//
// Guardians tell each other how their ranks are (dist/guardian_wire.hpp). A job hangs when no rank that is heard of has
// done anything for as long as it may: a rank that waits for one that works is in order. Then each says on one line
// where its rank is, the lowest one that is alive says who is to blame (dist/hang_report.hpp), and all end their ranks:
// nothing is asked of MPI or NCCL any more. A guardian takes no part in the work: it wakes up four times a second.
//
// Suspended jobs (a batch system's gang scheduling) are no hangs: time counts by the guardian's own turns.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "dist/guardian_wire.hpp"

namespace lorashard::dist {

// What a rank shares with its guardian.
struct GuardedMemory {
  RankState state;
  GuardianAddress own;                // written before the rank starts
  std::atomic<int> rank{0}, size{0};  // size 0: the peers are not known yet
  std::atomic<std::uint64_t> job{0};
  std::atomic<bool> returned{false};  // the program's work is over: how it ends is its own business
  std::atomic<int> failure{0};        // the rank ends with this code, and says why itself
  // One a rank, filled in once MPI has been started. Behind this struct, in pages that take no memory until then.
  static constexpr int kMostRanks = 1 << 16;
  GuardianAddress* peers() { return reinterpret_cast<GuardianAddress*>(this + 1); }
};

// The exit code of a rank that a signal ended: 128 + its number, as a shell has it.
inline constexpr int kSignalCode = 128;

// Forks: returns in the rank, and never in the guardian, which exits with the rank's exit code. Called first thing in
// main, before any thread. Where no process can be made, or LORASHARD_GUARDIAN=0 asks for none, the program goes on
// without (debuggers and profilers that follow one process want that).
GuardedMemory& start_guardian(double limit_s);

}  // namespace lorashard::dist
