#include "core/gradient_buckets.hpp"

#include <algorithm>

namespace lorashard::core {

// From the end of the buffer, where the upper layers lie, to its start, which is the order in which they become complete.
GradientBuckets::GradientBuckets(ReplicatedGroup& group, dist::Communicator& replica, Index bytes)
    : group_(group), replica_(replica) {
  Index end = group.count();
  std::vector<Index> layers;
  for (auto entry = group.entries().rbegin(); entry != group.entries().rend(); ++entry) {
    if (std::find(layers.begin(), layers.end(), entry->layer) == layers.end()) layers.push_back(entry->layer);
    const bool last = entry + 1 == group.entries().rend();
    if (!last && (end - entry->offset) * size_bytes(DType::f32) < bytes) continue;
    buckets_.push_back({entry->offset, end - entry->offset, layers, layers.size()});
    end = entry->offset;
    layers.clear();
  }
}

void GradientBuckets::layer_done(Index layer) {
  for (Bucket& bucket : buckets_) {
    if (std::find(bucket.layers.begin(), bucket.layers.end(), layer) == bucket.layers.end()) continue;
    if (--bucket.missing == 0) start(bucket);
  }
}

void GradientBuckets::finish() {
  for (Bucket& bucket : buckets_)
    if (bucket.missing > 0) start(bucket);
  for (const auto& pending : pending_) pending->wait();
  pending_.clear();
  for (Bucket& bucket : buckets_) bucket.missing = bucket.layers.size();
}

void GradientBuckets::start(Bucket& bucket) {
  bucket.missing = 0;
  pending_.push_back(replica_.start_all_reduce(group_.gradients().col_range(bucket.first, bucket.count)));
}

}  // namespace lorashard::core
