// Who is to blame when a job stands still: from what is known of every rank to the lines that say so. Most ranks of a
// hanging job wait for others, which wait for others; what matters is the rank that waits for nobody.
#pragma once

#include <string>
#include <vector>

#include "dist/rank_state.hpp"

namespace lorashard::dist {

struct Seen {
  std::string host;
  bool heard = false;    // of this rank at all
  double silent_s = 0;   // since it was last heard of
  bool stopped = false;  // by a signal; its guardian still answers
  double idle_s = 0, limit_s = 0;  // since it did anything, and how long that may last
  Snapshot state;
};

// Without a word for this long a rank, or its host, or the way to it, is lost. Guardians speak four times a second.
inline constexpr double kSilent_s = 2.5;

// The ranks that rank `rank` waits for in its state, without itself: the peer of a message, the others of a group.
// Empty when it does not wait.
std::vector<int> waited_for(int rank, int ranks, const Snapshot& state);

// Lines without an end: "rank 5 (host b) never entered all_reduce 1812 over axis replica; last seen in step 41,
// backward of microbatch 0, layer 17, attention". `seen` holds every rank of the job. At most four ranks are named.
std::vector<std::string> hang_report(const std::vector<Seen>& seen);

// "0-3, 7": rising numbers.
std::string ranges_text(const std::vector<int>& numbers);

}  // namespace lorashard::dist
