// The flat gradient buffer of a replicated group, cut into runs of entries that are summed over tensor x data as soon as
// the backward pass has left the lowest layer of the run: where the device can do both, the sum of one run moves beside
// the backward pass of the layers below it. Every element is summed by one all-reduce.
#pragma once

#include <memory>
#include <vector>

#include "core/replicated.hpp"

namespace lorashard::core {

class GradientBuckets {
 public:
  // Below some MiB an all-reduce is all latency; much larger ones leave their sum to the end of the step.
  static constexpr Index kBytes = Index{8} << 20;

  // A bucket is closed once it holds `bytes`. The group is complete, and outlives this.
  GradientBuckets(ReplicatedGroup& group, dist::Communicator& replica, Index bytes = kBytes);

  // The step's gradients of `layer` are queued on this rank. Every rank of the replica group says so in the same order.
  void layer_done(Index layer);
  // Starts what no layer completed and waits for all; begins anew for the next step.
  void finish();

  std::size_t size() const { return buckets_.size(); }

 private:
  struct Bucket {
    Index first = 0, count = 0;  // elements of the flat buffer
    std::vector<Index> layers;   // each once; -1: only finish() completes it
    std::size_t missing = 0;     // layers still to come in this step
  };
  void start(Bucket& bucket);

  ReplicatedGroup& group_;
  dist::Communicator& replica_;
  std::vector<Bucket> buckets_;
  std::vector<std::unique_ptr<dist::Pending>> pending_;
};

}  // namespace lorashard::core
