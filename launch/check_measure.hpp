// What a node has and how its links do, measured by ranks that were started on every node of a job.
#pragma once

#include <vector>

#include "dist/runtime.hpp"
#include "launch/check_rows.hpp"

namespace lorashard::launch {

// A row of every node, in the order of their first ranks; empty on all ranks but 0. Collective. `folder` is empty where
// none is to be tried. Costs a few seconds: 16 MiB go over each link a dozen times. A peer that does not answer for a
// minute ends the job with one line (Failure::communication).
std::vector<NodeRow> measure_nodes(dist::Runtime& runtime, const std::string& folder);

// The part that belongs to the GPUs of this host: their number, the card and the driver, and an all-reduce between
// every two of those that the host's ranks have. Collective over all ranks. Complete on the host's first rank.
void measure_gpus(const dist::Runtime& runtime, NodeRow& row);
// Why no pairs are tried with this many ranks and GPUs on a host; empty: they are.
std::string no_pairs_reason(int local_ranks, int gpus);
// Whom `player` of n meets in `round`, so that in n - 1 rounds (n when it is odd) everyone meets everyone once; n
// itself is nobody.
int pair_partner(int player, int round, int n);

}  // namespace lorashard::launch
