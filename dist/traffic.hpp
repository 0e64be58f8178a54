// What a plan's communicators say of each verb: a clock turns it into time, a table into bytes by axis.
#pragma once

#include <string>

#include "kernels/view.hpp"

namespace lorashard::dist {

enum class Verb { all_reduce, all_gather, reduce_scatter, broadcast, send, receive, values, barrier };
const char* name(Verb verb);

struct Traffic {
  Verb verb = Verb::all_reduce;
  const std::string* axis = nullptr;  // "tensor", "data", ...; lives as long as the communicator
  int size = 1;                       // ranks of the group
  kernels::Index bytes = 0;           // of the whole: the reduced buffer, all parts together, the message
  bool started = false;               // complete only after its wait(): may run beside what follows
};

class TrafficObserver {
 public:
  virtual ~TrafficObserver() = default;
  virtual void moved(const Traffic& traffic) = 0;
};

}  // namespace lorashard::dist
