// Streams, each worked off by its own thread.
#include "tests/emulator/streams.hpp"

#include <sys/prctl.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>

#include "tests/emulator/memory.hpp"
#include "tests/emulator/shadow.hpp"

namespace lorashard::emulator {
namespace {

thread_local const Operation* running = nullptr;

long setting(const char* name, long otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atol(text);
}

// A quarter of the operations starts late, so that an order which nothing enforces is not kept by chance either.
void dawdle(std::minstd_rand& random) {
  static const long most_us = setting("LORASHARD_EMULATOR_DELAY_US", 50);
  const auto draw = random();
  if (most_us > 0 && draw % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds((draw >> 8) % (most_us + 1)));
}

void run(const Operation& operation) {
  running = &operation;
  switch (operation.holds) {
    case Holds::device: {
      const std::lock_guard<std::mutex> alone(device_lock());
      const OpenMemory open;
      if (shadow_operation(operation)) operation.work(operation);
      break;
    }
    case Holds::memory: {
      const OpenMemory open;
      bool sound;
      {
        const std::lock_guard<std::mutex> alone(device_lock());
        sound = shadow_operation(operation);
      }
      if (sound) operation.work(operation);
      break;
    }
    case Holds::nothing:
      operation.work(operation);
  }
  running = nullptr;
}

void work_off(cudaStream_t stream) {
  Queues& all = queues();
  prctl(PR_SET_TIMERSLACK, 1000ul);                            // ns: delays as short as they are meant
  alignas(16) thread_local unsigned char signal_stack[16384];  // for a thread that has used up its own
  const stack_t signals{signal_stack, 0, sizeof signal_stack};
  stack_t has;
  if (sigaltstack(nullptr, &has) == 0 && (has.ss_flags & SS_DISABLE) != 0) sigaltstack(&signals, nullptr);
  std::unique_lock<std::mutex> lock(all.mutex);
  while (true) {
    all.changed.wait(lock, [&] { return stream->closing || !stream->operations.empty(); });
    if (stream->operations.empty()) return;
    {
      const Operation operation = std::move(stream->operations.front());
      stream->operations.pop_front();
      lock.unlock();
      dawdle(stream->random);
      run(operation);
    }
    lock.lock();
    ++stream->done;
    all.changed.notify_all();
  }
}

void wait_for_all(bool learn) {
  Queues& all = queues();
  std::unique_lock<std::mutex> lock(all.mutex);
  const auto idle = [&] {
    return std::all_of(all.streams.begin(), all.streams.end(), [](cudaStream_t s) { return s->done == s->queued; });
  };
  all.changed.wait(lock, idle);
  if (!learn) return;
  for (cudaStream_t stream : all.streams) all.host.join(stream->clock);
}

cudaStream_t new_stream() {
  Queues& all = queues();
  const std::lock_guard<std::mutex> lock(all.mutex);
  auto* stream = new CUstream_st;
  if (all.free_indices.empty()) {
    stream->index = static_cast<unsigned>(all.positions.size());
    all.positions.push_back(0);
  } else {
    stream->index = all.free_indices.back();
    all.free_indices.pop_back();
  }
  stream->queued = stream->done = all.positions[stream->index];
  stream->random.seed(static_cast<unsigned>(setting("LORASHARD_EMULATOR_SEED", 1) * 1000 + stream->index + 1));
  all.streams.insert(stream);
  stream->worker = std::thread(work_off, stream);
  return stream;
}

}  // namespace

Queues& queues() {
  static Queues& all = *new Queues;
  return all;
}

std::mutex& device_lock() {
  static std::mutex& lock = *new std::mutex;
  return lock;
}

const Operation* running_operation() { return running; }

std::string stream_name(unsigned stream) { return "stream " + std::to_string(stream); }

Clock clock_after(cudaStream_t stream) {
  const std::lock_guard<std::mutex> lock(queues().mutex);
  Clock clock = stream->clock;
  clock.join(queues().host);
  clock.advance({stream->index, stream->queued + 1});
  return clock;
}

Place queue(cudaStream_t stream, Operation operation) {
  Queues& all = queues();
  const std::lock_guard<std::mutex> lock(all.mutex);
  operation.number = ++all.operations;
  operation.place = {stream->index, ++stream->queued};
  all.positions[stream->index] = stream->queued;
  stream->clock.join(all.host);
  stream->clock.advance(operation.place);
  operation.clock = stream->clock;
  stream->operations.push_back(std::move(operation));
  all.changed.notify_all();
  return {stream->index, stream->queued};
}

void wait_for(cudaStream_t stream) {
  Queues& all = queues();
  std::unique_lock<std::mutex> lock(all.mutex);
  const std::uint32_t last = stream->queued;
  const Clock then = stream->clock;
  all.changed.wait(lock, [&] { return stream->done >= last; });
  all.host.join(then);
}

void drain() { wait_for_all(false); }
void synchronize_all() { wait_for_all(true); }

cudaStream_t unnamed_stream() {
  static cudaStream_t stream = new_stream();
  return stream;
}

bool usable(cudaStream_t stream, const char* call) {
  if (stream != nullptr && stream != cudaStreamLegacy && stream != cudaStreamPerThread) return true;
  fault(call, "the default stream is used; every operation names a stream of its own");
  return false;
}

void enqueue(cudaStream_t stream, std::string name, std::vector<Access> accesses, std::function<void()> work,
             bool blocks) {
  if (!usable(stream, name.c_str())) return;
  queue(stream, {.name = std::move(name),
                 .holds = blocks ? Holds::memory : Holds::device,
                 .accesses = std::move(accesses),
                 .work = [work = std::move(work)](const Operation&) { work(); }});
}

}  // namespace lorashard::emulator

using namespace lorashard::emulator;

extern "C" {

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  if (flags != cudaStreamNonBlocking) {
    fault("cudaStreamCreate", "a stream that waits for the default stream; cudaStreamNonBlocking is expected");
  }
  *stream = new_stream();
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

// Unlike on a device the call waits for what is queued; the host's clock does not learn that.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (!usable(stream, "cudaStreamDestroy")) return cudaErrorInvalidResourceHandle;
  Queues& all = queues();
  {
    const std::lock_guard<std::mutex> lock(all.mutex);
    stream->closing = true;
    all.changed.notify_all();
  }
  stream->worker.join();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.streams.erase(stream);
  all.free_indices.insert(all.free_indices.begin(), stream->index);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (!usable(stream, "cudaStreamSynchronize")) return cudaErrorInvalidResourceHandle;
  wait_for(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (!usable(stream, "cudaStreamQuery")) return cudaErrorInvalidResourceHandle;
  Queues& all = queues();
  const std::lock_guard<std::mutex> lock(all.mutex);
  if (stream->done != stream->queued) return cudaErrorNotReady;
  all.host.join(stream->clock);
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  synchronize_all();
  return cudaSuccess;
}

}  // extern "C"
