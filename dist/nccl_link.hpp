// One NCCL communicator with the stream that its operations run on, beside the device's own. Included by
// nccl_communicator.cpp alone.
#pragma once

#include <cuda_runtime.h>
#include <nccl.h>

#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/cuda.hpp"

namespace lorashard::dist {

// Shared by the transfer that will wait for it and the list of what is in flight; goes back to its pool when both have
// let go, so that it is never recorded anew while somebody still asks whether it has come to pass.
using NcclEvent = std::shared_ptr<std::remove_pointer_t<cudaEvent_t>>;

class NcclEvents : public std::enable_shared_from_this<NcclEvents> {
 public:
  ~NcclEvents() {
    for (const cudaEvent_t event : free_) cudaEventDestroy(event);
  }
  NcclEvent take() {
    cudaEvent_t event = nullptr;
    if (!free_.empty()) {
      event = free_.back();
      free_.pop_back();
    }
    if (!event) kernels::checked(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    return {event, [pool = shared_from_this()](cudaEvent_t done) { pool->free_.push_back(done); }};
  }

 private:
  std::vector<cudaEvent_t> free_;
};

// What was queued on a link and has not been seen to end, oldest first.
class NcclInFlight {
 public:
  struct Operation {
    const char* verb;
    int peer;              // of a message: its place in the group; -1
    std::uint64_t number;  // of a collective in its group
    NcclEvent end;
  };
  void add(const Operation& operation) {
    if (operations_.size() >= kLong) drop_finished();
    operations_.push_back(operation);
  }
  // Null when all has ended.
  const Operation* oldest() {
    drop_finished();
    return operations_.empty() ? nullptr : &operations_.front();
  }

 private:
  static constexpr std::size_t kLong = 64;
  // A broken device answers with an error, which the main thread meets and reports.
  void drop_finished() {
    while (!operations_.empty() && cudaEventQuery(operations_.front().end.get()) != cudaErrorNotReady)
      operations_.pop_front();
  }

  std::deque<Operation> operations_;
};

// Owns the handles. `comm` is filled in by who makes the link.
class NcclLink {
 public:
  // The stream has the highest priority: the blocks of a communication kernel are few, and peers wait for them.
  NcclLink() {
    int lowest = 0, highest = 0;
    kernels::checked(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "cudaDeviceGetStreamPriorityRange");
    kernels::checked(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, highest),
                     "cudaStreamCreateWithPriority");
    kernels::checked(cudaEventCreateWithFlags(&begin, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  }
  NcclLink(const NcclLink&) = delete;
  NcclLink& operator=(const NcclLink&) = delete;

  // With an error on its way out the peers may never come: what is queued is called off. Otherwise destroying is
  // collective over the ranks of the link.
  ~NcclLink() {
    if (comm && lost()) ncclCommAbort(comm);
    if (comm && !lost()) ncclCommDestroy(comm);
    if (begin) cudaEventDestroy(begin);
    if (stream) cudaStreamDestroy(stream);
  }

  // Waits until what was queued has ended.
  void finish() noexcept {
    if (!lost()) cudaStreamSynchronize(stream);
  }

  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  cudaEvent_t begin = nullptr;  // recorded anew by every operation: a wait that is queued keeps the record it found
  bool broken = false;          // NCCL has reported an error
  NcclInFlight in_flight;

 private:
  bool lost() const { return broken || std::uncaught_exceptions() > exceptions_; }

  const int exceptions_ = std::uncaught_exceptions();
};

}  // namespace lorashard::dist
