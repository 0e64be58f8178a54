// Events. A wait is for the record that was the last one when the wait was queued.
#include <algorithm>

#include "tests/emulator/streams.hpp"

using namespace lorashard::emulator;

extern "C" {

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st;
  (*event)->timed = (flags & cudaEventDisableTiming) == 0;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (!usable(stream, "cudaEventRecord")) return cudaErrorInvalidResourceHandle;
  const auto state = event->state;
  std::uint64_t generation;
  const Clock clock = clock_after(stream);
  {
    const std::lock_guard<std::mutex> lock(queues().mutex);
    generation = ++state->recorded;
    state->clock = clock;
  }
  queue(stream, {.name = "cudaEventRecord", .holds = Holds::nothing, .work = [state, generation](const Operation&) {
                   const std::lock_guard<std::mutex> lock(queues().mutex);
                   state->passed = std::max(state->passed, generation);
                   state->when = std::chrono::steady_clock::now();
                   queues().changed.notify_all();
                 }});
  return cudaSuccess;
}

// Of an event never recorded, nothing is waited for, as on a device.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (!usable(stream, "cudaStreamWaitEvent")) return cudaErrorInvalidResourceHandle;
  const auto state = event->state;
  std::uint64_t generation;
  {
    const std::lock_guard<std::mutex> lock(queues().mutex);
    generation = state->recorded;
    stream->clock.join(state->clock);
  }
  queue(stream, {.name = "cudaStreamWaitEvent", .holds = Holds::nothing, .work = [state, generation](const Operation&) {
                   std::unique_lock<std::mutex> lock(queues().mutex);
                   queues().changed.wait(lock, [&] { return state->passed >= generation; });
                 }});
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  std::unique_lock<std::mutex> lock(queues().mutex);
  const std::uint64_t generation = event->state->recorded;
  queues().changed.wait(lock, [&] { return event->state->passed >= generation; });
  queues().host.join(event->state->clock);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::lock_guard<std::mutex> lock(queues().mutex);
  if (event->state->passed < event->state->recorded) return cudaErrorNotReady;
  queues().host.join(event->state->clock);
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
  const std::lock_guard<std::mutex> lock(queues().mutex);
  if (!start->timed || !end->timed || start->state->recorded == 0 || end->state->recorded == 0) {
    return cudaErrorInvalidResourceHandle;
  }
  if (start->state->passed < start->state->recorded || end->state->passed < end->state->recorded)
    return cudaErrorNotReady;
  *ms = std::chrono::duration<float, std::milli>(end->state->when - start->state->when).count();
  return cudaSuccess;
}

}  // extern "C"
