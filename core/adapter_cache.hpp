// Adapters that wait in host memory for their turn: as many as a limit has room for, and the one that was used longest
// ago goes first.
#pragma once

#include <list>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/adapter.hpp"

namespace lorashard::core {

struct HeldAdapter {
  std::string path;
  TrainingPlan plan;          // of the whole model
  std::vector<float> values;  // of this rank's pairs, as Parameters::replicated() has them
};

// What an adapter with so many values takes.
Index held_bytes(const TrainingPlan& plan, Index values);

class AdapterCache {
 public:
  explicit AdapterCache(Index most_bytes) : most_bytes_(most_bytes) {}

  // Null when it is not there; else it is the latest now.
  const HeldAdapter* find(const std::string& path);
  // Lets go of the oldest until `bytes` more have room. Throws Failure::configuration, naming `path`, when they never
  // have.
  void make_room(const std::string& path, Index bytes);
  // After make_room(); valid until the next call of it.
  const HeldAdapter& add(HeldAdapter adapter);

  Index count() const { return std::ssize(adapters_); }
  Index bytes() const { return bytes_; }
  Index most_bytes() const { return most_bytes_; }
  Index let_go() const { return let_go_; }  // how many had to go so far

 private:
  static Index bytes_of(const HeldAdapter& adapter) { return held_bytes(adapter.plan, std::ssize(adapter.values)); }
  std::list<HeldAdapter> adapters_;  // the latest first
  std::unordered_map<std::string, std::list<HeldAdapter>::iterator> places_;
  Index most_bytes_, bytes_ = 0, let_go_ = 0;
};

}  // namespace lorashard::core
