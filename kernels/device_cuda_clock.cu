#include "kernels/device_cuda_clock.hpp"

namespace lorashard::kernels {

CudaPhaseClock::CudaPhaseClock(Profile& profile, cudaStream_t stream) : profile_(profile), stream_(stream) {
  mark(Phase::other);
}

CudaPhaseClock::~CudaPhaseClock() {
  for (const Mark& m : marks_) cudaEventDestroy(m.event);
  for (cudaEvent_t event : spare_) cudaEventDestroy(event);
}

void CudaPhaseClock::mark(Phase phase) {
  if (spare_.empty()) {
    cudaEvent_t event = nullptr;
    checked(cudaEventCreateWithFlags(&event, cudaEventDefault), "cudaEventCreateWithFlags");
    spare_.push_back(event);
  }
  checked(cudaEventRecord(spare_.back(), stream_), "cudaEventRecord");
  marks_.push_back({spare_.back(), phase});
  spare_.pop_back();
}

void CudaPhaseClock::begin(Phase phase) {
  if (marks_.back().phase != phase) mark(phase);
}

void CudaPhaseClock::recycle_oldest() {
  spare_.push_back(marks_.front().event);
  marks_.pop_front();
}

void CudaPhaseClock::restart() {
  while (!marks_.empty()) recycle_oldest();
  mark(Phase::other);
}

void CudaPhaseClock::settle() {
  while (marks_.size() > 1) {
    const cudaError_t state = cudaEventQuery(marks_[1].event);
    if (state == cudaErrorNotReady) {
      cudaGetLastError();  // it counts as an error there
      return;
    }
    checked(state, "cudaEventQuery");
    float milliseconds = 0;
    checked(cudaEventElapsedTime(&milliseconds, marks_[0].event, marks_[1].event), "cudaEventElapsedTime");
    profile_.add_seconds(marks_[0].phase, 1e-3 * milliseconds);
    recycle_oldest();
    // The host may do nothing but wait for a device that works.
    profile_.place().operation.store(name(marks_.front().phase), std::memory_order_relaxed);
    profile_.place().beat();
  }
}

}  // namespace lorashard::kernels
