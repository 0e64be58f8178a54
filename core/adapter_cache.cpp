#include "core/adapter_cache.hpp"

namespace lorashard::core {

using kernels::fail;
using kernels::Failure;
using kernels::text;

Index held_bytes(const TrainingPlan& plan, Index values) {
  return values * static_cast<Index>(sizeof(float)) +
         std::ssize(plan.adapters) * static_cast<Index>(sizeof(AdapterSpec));
}

const HeldAdapter* AdapterCache::find(const std::string& path) {
  const auto found = places_.find(path);
  if (found == places_.end()) return nullptr;
  adapters_.splice(adapters_.begin(), adapters_, found->second);
  return &adapters_.front();
}

void AdapterCache::make_room(const std::string& path, Index bytes) {
  if (bytes > most_bytes_)
    fail(Failure::configuration, text(path, ": found ", bytes, " bytes, expected at most the ", most_bytes_,
                                      " in which adapters wait for their turn (--adapter-memory)"));
  for (; bytes_ + bytes > most_bytes_; ++let_go_) {
    bytes_ -= bytes_of(adapters_.back());
    places_.erase(adapters_.back().path);
    adapters_.pop_back();
  }
}

const HeldAdapter& AdapterCache::add(HeldAdapter adapter) {
  bytes_ += bytes_of(adapter);
  adapters_.push_front(std::move(adapter));
  places_[adapters_.front().path] = adapters_.begin();
  return adapters_.front();
}

}  // namespace lorashard::core
