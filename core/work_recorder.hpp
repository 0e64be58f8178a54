// When the named works of this rank's steps began and ended, by its device's own clock.
#pragma once

#include <memory>
#include <vector>

#include "core/timeline.hpp"
#include "kernels/device.hpp"

namespace lorashard::core {

class WorkRecorder final : public kernels::Observer {
 public:
  // Records from now on, until it is destroyed; `device` outlives it. Times count from now.
  explicit WorkRecorder(kernels::Device& device);
  ~WorkRecorder() override;
  WorkRecorder(const WorkRecorder&) = delete;
  WorkRecorder& operator=(const WorkRecorder&) = delete;

  void operation(kernels::Phase, const kernels::Cost&, const kernels::ProductShape*) override {}
  void enter(const char* work, int number, int part) override;
  void leave() override;

  // The outermost works, in order. Waits for the device to finish them.
  std::vector<Span> spans() const;

 private:
  struct Recorded {
    const char* work;
    int number, part;
    std::unique_ptr<kernels::Moment> start, end;
  };
  kernels::Device& device_;
  std::unique_ptr<kernels::Moment> begin_;
  std::vector<Recorded> works_;
  int depth_ = 0;
};

}  // namespace lorashard::core
