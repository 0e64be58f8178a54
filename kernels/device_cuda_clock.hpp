// Phases measured with the cuda device's own events. Private to the files device_cuda*.cu.
#pragma once

#include <deque>
#include <vector>

#include "kernels/cuda.hpp"

namespace lorashard::kernels {

// An event wherever the phase changes, some hundred in a step; what lies between two of them is added to the profile once
// both have come to pass. Waiting for a peer counts in the phase that waits, and waiting for the host in the phase before.
class CudaPhaseClock final : public PhaseClock {
 public:
  CudaPhaseClock(Profile& profile, cudaStream_t stream);
  ~CudaPhaseClock() override;
  CudaPhaseClock(const CudaPhaseClock&) = delete;
  CudaPhaseClock& operator=(const CudaPhaseClock&) = delete;

  void begin(Phase phase) override;
  void restart() override;
  // Adds what has come to pass. Never waits.
  void settle();

 private:
  struct Mark {
    cudaEvent_t event;
    Phase phase;  // of what follows
  };
  void mark(Phase phase);
  void recycle_oldest();

  Profile& profile_;
  cudaStream_t stream_;
  std::deque<Mark> marks_;  // oldest first
  std::vector<cudaEvent_t> spare_;
};

}  // namespace lorashard::kernels
