// What a rank is doing, in memory that it shares with its guardian (dist/guardian.hpp): a program that hangs, is stopped
// or was killed cannot be asked any more.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "dist/mesh.hpp"
#include "kernels/place.hpp"

namespace lorashard::dist {

// The groups of ranks that wait for each other: all ranks before there is a mesh, and the mesh's axes.
enum class Group { all, world, tensor, pipeline, data, replica };
inline constexpr int kGroupCount = 6;
const char* name(Group group);
Group group_named(const std::string& axis);  // an axis that is none of the mesh's counts as all

inline constexpr std::size_t kWord = 32;  // of the words in a Snapshot, the ending zero included

// What is sent to other hosts of it: plain bytes.
struct Snapshot {
  std::uint64_t beats = 0;
  std::int64_t step = -1, layer = -1, microbatch = -1;
  char work[kWord] = "", operation[kWord] = "";
  char waits_in[kWord] = "";  // a verb whose peers have not come; empty while it computes
  int group = 0;              // of waits_in
  int peer = -1;              // of a message: its place in the group
  std::uint64_t number = 0;   // of a collective: how many its rank has entered in this group, this one included
  std::array<std::uint64_t, kGroupCount> entered{};
  int mesh = 0;  // how many meshes were made so far; `entered` counts from the last one
  int tensor = 0, pipeline = 0, data = 0;  // its extents; 0: none yet
};

// "step 41, backward of microbatch 2, layer 17, attention"; empty when nothing is known.
std::string place_text(const Snapshot& snapshot);
// "all_reduce 1812 over axis replica", "receive over axis pipeline"; empty while it does not wait.
std::string wait_text(const Snapshot& snapshot);

class RankState {
 public:
  kernels::Place place;

  // Seconds without a beat that mean a hang; 0: never.
  std::atomic<double> limit_s{600};

  Snapshot snapshot() const;

  // A mesh's communicators begin to count anew.
  void begin_mesh(const MeshExtents& extents);
  // Counts a collective as entered.
  std::uint64_t count(Group group) { return ++entered_[static_cast<int>(group)]; }

  // The oldest collective or message of a group that is queued on the device and has not ended (no verb: none). The host
  // may wait for it without knowing.
  void device_waits_in(const char* verb, Group group, int peer, std::uint64_t number);

 private:
  friend class WaitScope;
  struct Wait {
    std::atomic<const char*> verb{nullptr};
    std::atomic<int> group{0}, peer{-1};
    std::atomic<std::uint64_t> number{0}, beats{0};  // beats: of the moment when it was noted
    void set(const char* in, Group of, int with, std::uint64_t n);
  };
  const Wait& wait() const;

  Wait host_;
  std::array<Wait, kGroupCount> device_;
  std::array<std::atomic<std::uint64_t>, kGroupCount> entered_{};
  std::atomic<int> mesh_{0}, tensor_{0}, pipeline_{0}, data_{0};
};

// While it lives, this rank waits for its peers: in a collective, which is counted, or in a message of `peer`. `state`
// may be null: nobody watches.
class WaitScope {
 public:
  WaitScope(RankState* state, const char* verb, Group group, int peer = -1);
  ~WaitScope();
  WaitScope(const WaitScope&) = delete;
  WaitScope& operator=(const WaitScope&) = delete;

 private:
  RankState* state_;
};

}  // namespace lorashard::dist
