// Inside the emulator: clocks, operations, streams and events.
//
// Order is kept in vector clocks. Each stream counts its operations; a clock holds, per stream, how many of its
// operations are known to be over. A stream's clock grows with its operations, with the events it waits for and with
// what the host had waited for when it queued. So "A is ordered before B" is "B's clock covers A", whatever order they
// happen to run in.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/emulator/queue.hpp"

namespace lorashard::emulator {

// The first `position` operations of a stream.
struct Place {
  unsigned stream = 0;
  std::uint32_t position = 0;
};

class Clock {
 public:
  bool covers(Place place) const { return place.stream < known_.size() && known_[place.stream] >= place.position; }
  void advance(Place place) {
    if (known_.size() <= place.stream) known_.resize(place.stream + 1);
    known_[place.stream] = std::max(known_[place.stream], place.position);
  }
  void join(const Clock& other) {
    for (unsigned i = 0; i < other.known_.size(); ++i) advance({i, other.known_[i]});
  }

 private:
  std::vector<std::uint32_t> known_;
};

// What an operation holds while it runs.
enum class Holds {
  device,   // device memory, alone: kernels, copies, products
  memory,   // device memory, beside others: collectives
  nothing,  // events
};

struct Operation {
  std::string name;
  Holds holds = Holds::device;
  std::vector<Access> accesses = {};
  std::function<void(const Operation&)> work = {};
  std::uint32_t number = 0;  // from 1 on, in the order of the host's calls over all streams
  Place place = {};
  Clock clock = {};  // covers itself
};

// Lives as long as the process: streams may still work when static objects are destroyed.
struct Queues {
  std::mutex mutex;
  std::condition_variable changed;
  Clock host;
  std::uint32_t operations = 0;
  std::set<cudaStream_t> streams;
  std::vector<std::uint32_t> positions;  // by stream index, of destroyed ones too; an index that is free is used again
  std::vector<unsigned> free_indices;
};
Queues& queues();

// Queues an operation; number, place and clock are filled in. Returns where it came to lie.
Place queue(cudaStream_t stream, Operation operation);
// Waits until what is queued on the stream is over; the host's clock learns it.
void wait_for(cudaStream_t stream);
// Waits for all streams without the program's having asked for it: nothing is learnt.
void drain();
void synchronize_all();
// The stream behind the calls that take none (cudaMemcpy): ordered with no other.
cudaStream_t unnamed_stream();
// Reports the legacy default stream and returns false for it.
bool usable(cudaStream_t stream, const char* call);
// Clock of the next operation on `stream`.
Clock clock_after(cudaStream_t stream);
std::string stream_name(unsigned stream);

// One kernel or copy at a time; also guards the shadow memory.
std::mutex& device_lock();
// The operation that the calling thread runs, or null on a thread of the host.
const Operation* running_operation();

}  // namespace lorashard::emulator

// The types behind NVIDIA's opaque handles.
struct CUevent_st {
  struct State {
    std::uint64_t recorded = 0;  // calls of cudaEventRecord, and how many of those have come to pass
    std::uint64_t passed = 0;
    lorashard::emulator::Clock clock;
    std::chrono::steady_clock::time_point when;
  };
  std::shared_ptr<State> state = std::make_shared<State>();
  bool timed = true;
};

struct CUstream_st {
  unsigned index = 0;
  lorashard::emulator::Clock clock;
  std::uint32_t queued = 0;
  std::uint32_t done = 0;
  bool closing = false;
  std::deque<lorashard::emulator::Operation> operations;
  std::minstd_rand random;
  std::thread worker;
};
