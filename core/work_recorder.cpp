#include "core/work_recorder.hpp"

namespace lorashard::core {

WorkRecorder::WorkRecorder(kernels::Device& device) : device_(device), begin_(device.moment()) {
  device_.profile().tell(this);
}

WorkRecorder::~WorkRecorder() { device_.profile().tell(nullptr); }

void WorkRecorder::enter(const char* work, int number, int part) {
  if (++depth_ == 1) works_.push_back({work, number, part, device_.moment(), nullptr});
}

void WorkRecorder::leave() {
  if (--depth_ == 0) works_.back().end = device_.moment();
}

std::vector<Span> WorkRecorder::spans() const {
  std::vector<Span> spans;
  for (const Recorded& r : works_)
    if (r.end)
      spans.push_back({r.work, r.number, r.part, r.start->seconds_since(*begin_), r.end->seconds_since(*begin_)});
  return spans;
}

}  // namespace lorashard::core
