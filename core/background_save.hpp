// A checkpoint that is written beside the training: training waits while the state is copied, not while it is written.
// A thread of its own writes this rank's part, brings it to the disk and reads it again; what remains for the ranks to do
// together is small.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/checkpoint.hpp"
#include "kernels/host_memory.hpp"

namespace lorashard::core {

class BackgroundSave {
 public:
  // `memory` holds the copy, and outlives this: one that serves save after save is not faulted in anew each time.
  BackgroundSave(std::unique_ptr<CheckpointWriter> writer, kernels::HostMemory& memory)
      : memory_(memory), writer_(std::move(writer)) {}
  // Waits for the thread; what was not finished is removed.
  ~BackgroundSave();
  BackgroundSave(const BackgroundSave&) = delete;
  BackgroundSave& operator=(const BackgroundSave&) = delete;

  // Before start(): copies this rank's slice of a tensor, from host or device memory.
  void add(kernels::Device& device, const std::string& name, const dist::AxisCut& rows, const dist::AxisCut& cols,
           kernels::ConstMatrix from);
  void start();
  // This rank's part is on the disk, or has failed.
  bool ended() const { return ended_; }
  // Collective: waits for all parts, and puts the file in its place. Throws what the thread met. Returns its bytes.
  Index finish();

 private:
  struct Slice {
    std::string name;
    dist::AxisCut rows, cols;
    std::byte* memory;
    kernels::ConstMatrix view;
  };
  void write();
  void rest();
  void end_thread();

  kernels::HostMemory& memory_;
  std::unique_ptr<CheckpointWriter> writer_;
  std::vector<Slice> slices_;
  std::thread thread_;
  double worked_s_ = 0;  // by the thread's own processor time, when it last rested
  std::mutex mutex_;
  std::condition_variable hurry_now_;
  bool hurry_ = false;
  std::atomic<bool> ended_{false};
  std::exception_ptr error_;  // read when ended
};

}  // namespace lorashard::core
