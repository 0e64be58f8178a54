#include "dist/hang_report.hpp"

#include <algorithm>
#include <cmath>

namespace lorashard::dist {

using kernels::text;

namespace {

constexpr int kMostNamed = 4;

bool lost(const Seen& seen) { return !seen.heard || seen.silent_s > kSilent_s; }
bool waits(const Seen& seen) { return seen.heard && seen.state.waits_in[0] != '\0'; }

std::string who(int rank, const Seen& seen) {
  return text("rank ", rank, " (host ", seen.host.empty() ? "unknown" : seen.host, ")");
}

// Why nothing is to be expected of a rank, and where it was.
std::string condition(const Seen& seen) {
  if (!seen.heard) return "; nothing was heard of it";
  std::string words;
  if (lost(seen)) words += text("; silent for ", std::llround(seen.silent_s), " s");
  if (seen.stopped) words += "; stopped by a signal";
  const std::string wait = wait_text(seen.state), place = place_text(seen.state);
  if (wait.empty() && place.empty()) return words;
  return words + "; last seen in " + wait + (wait.empty() || place.empty() ? "" : ", ") + place;
}

// A collective that `late` has not entered although `waiter` waits in it.
bool misses(int late, const Seen& seen, int waiter, const Seen& other, int ranks) {
  if (!waits(other)) return false;
  const std::vector<int> expected = waited_for(waiter, ranks, other.state);
  if (std::find(expected.begin(), expected.end(), late) == expected.end()) return false;
  if (other.state.peer >= 0) return true;  // a message
  const int group = std::clamp(other.state.group, 0, kGroupCount - 1);
  return !seen.heard || seen.state.mesh < other.state.mesh ||
         (seen.state.mesh == other.state.mesh && seen.state.entered[group] < other.state.number);
}

// The first rank that waits in something that `late` has not entered; none: -1.
int waiter_for(int late, const std::vector<Seen>& seen) {
  const int ranks = static_cast<int>(seen.size());
  for (int rank = 0; rank < ranks; ++rank)
    if (rank != late && misses(late, seen[late], rank, seen[rank], ranks)) return rank;
  return -1;
}

std::string blame(int rank, const std::vector<Seen>& seen) {
  const int waiter = waiter_for(rank, seen);
  if (waiter < 0) return who(rank, seen[rank]) + " makes no progress" + condition(seen[rank]);
  const Snapshot& waiting = seen[waiter].state;
  const std::string what = waiting.peer < 0
                               ? " never entered " + wait_text(waiting)
                               : text(" does not answer ", who(waiter, seen[waiter]), ", which waits in ",
                                      wait_text(waiting));
  return who(rank, seen[rank]) + what + condition(seen[rank]);
}

// Every rank waits for another: nobody is late by itself.
std::vector<std::string> deadlock(const std::vector<Seen>& seen) {
  std::vector<std::string> lines;
  const int ranks = static_cast<int>(seen.size());
  for (int rank = 0; rank < ranks && std::ssize(lines) < kMostNamed; ++rank)
    if (waiter_for(rank, seen) >= 0) lines.push_back(blame(rank, seen));
  if (!lines.empty()) return lines;
  return {text("all ranks are in ", wait_text(seen.front().state),
               ", and it does not end: look at the network between their hosts")};
}

}  // namespace

std::vector<int> waited_for(int rank, int ranks, const Snapshot& state) {
  std::vector<int> others;
  if (!state.waits_in[0]) return others;
  const Group group = static_cast<Group>(std::clamp(state.group, 0, kGroupCount - 1));
  const MeshExtents extents{state.tensor, state.pipeline, state.data};
  const bool in_a_mesh = group != Group::all && extents.ranks() > 0 && rank < extents.ranks();
  const MeshPoint own = in_a_mesh ? point_of(extents, rank) : MeshPoint{};
  for (int other = 0; other < (in_a_mesh ? extents.ranks() : ranks); ++other) {
    const MeshPoint at = in_a_mesh ? point_of(extents, other) : MeshPoint{};
    const bool tensor = at.tensor == own.tensor, pipeline = at.pipeline == own.pipeline, data = at.data == own.data;
    const bool member = group == Group::tensor     ? pipeline && data
                        : group == Group::pipeline ? tensor && data
                        : group == Group::data     ? tensor && pipeline
                        : group == Group::replica  ? pipeline
                                                   : true;
    if (member) others.push_back(other);
  }
  if (state.peer >= 0) {  // a place in the group
    if (state.peer >= static_cast<int>(others.size())) return {};
    return {others[static_cast<std::size_t>(state.peer)]};
  }
  std::erase(others, rank);
  return others;
}

std::vector<std::string> hang_report(const std::vector<Seen>& seen) {
  const int ranks = static_cast<int>(seen.size());
  std::vector<int> late;
  for (int rank = 0; rank < ranks; ++rank)
    if (lost(seen[rank]) || seen[rank].stopped || !waits(seen[rank])) late.push_back(rank);
  // Of several, those that somebody waits for: the others are mostly ranks that went on computing.
  std::vector<int> missed;
  for (const int rank : late)
    if (lost(seen[rank]) || seen[rank].stopped || waiter_for(rank, seen) >= 0) missed.push_back(rank);
  if (!missed.empty()) late = std::move(missed);
  if (late.empty()) return deadlock(seen);
  std::vector<std::string> lines;
  for (const int rank : late) {
    if (std::ssize(lines) == kMostNamed) {
      lines.back() += text("; and ", late.size() - kMostNamed, " more ranks");
      break;
    }
    lines.push_back(blame(rank, seen));
  }
  return lines;
}

std::string ranges_text(const std::vector<int>& numbers) {
  std::string ranges;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t end = i;
    while (end + 1 < numbers.size() && numbers[end + 1] == numbers[end] + 1) ++end;
    ranges += text(ranges.empty() ? "" : ", ", numbers[i], end > i ? text("-", numbers[end]) : "");
    i = end + 1;
  }
  return ranges;
}

}  // namespace lorashard::dist
