// The cuda device as its own files see it: the .cu files of this room and dist's NCCL communicator.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <memory>
#include <source_location>

#include "kernels/device.hpp"

namespace lorashard::kernels {

// Throws on anything but success: Failure::memory for cudaErrorMemoryAllocation, else Failure::other, with the call's
// name ("cudaEventRecord") and CUDA's own text.
void checked(cudaError_t code, const char* call, std::source_location where = std::source_location::current());

class CudaPhaseClock;

// Everything is queued on one stream, stream(); memory is taken from and given back to a pool in the order of that
// stream, so a buffer may be released while operations that use it are still queued. Whoever reads or writes a buffer on
// another stream makes that stream wait for stream() first, and stream() wait for it before the buffer is released.
class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int ordinal);
  ~CudaDevice() override;

  cudaStream_t stream() const;
  int ordinal() const;
  int multiprocessors() const;
  void synchronize() override;
  std::unique_ptr<Readback> make_readback(Index bytes) override;
  std::unique_ptr<Moment> moment() override;

  // Blocks the host until `event` has come to pass, calling the pollers every few milliseconds meanwhile.
  void wait_for(cudaEvent_t event);
  // `poll` may throw, which ends the wait: a communicator looks for asynchronous errors here. `owner` names it for
  // remove_poller.
  void add_poller(const void* owner, std::function<void()> poll);
  void remove_poller(const void* owner) noexcept;

  // Measures the phases of profile().
  CudaPhaseClock& clock();

  // What gemm.cu keeps from call to call (cuBLASLt's handle, workspace and the algorithm chosen for each shape).
  struct Products;
  Products& products();
  // Whether fp32 operands may be rounded to TF32 (10 bits of mantissa) for the tensor cores. At first they may not.
  void allow_tf32(bool allowed);

 private:
  std::byte* acquire(Index bytes) override;
  void give_back(std::byte* data, Index bytes) noexcept override;
  void move_in(ConstMatrix host, Matrix to) override;
  void move_out(ConstMatrix from, Matrix host) override;
  void move_within(ConstMatrix from, Matrix to) override;

  struct State;
  std::unique_ptr<State> state_;
};

// `device` must be a cuda device.
inline CudaDevice& as_cuda(Device& device) { return static_cast<CudaDevice&>(device); }
inline cudaStream_t stream_of(Device& device) { return as_cuda(device).stream(); }

}  // namespace lorashard::kernels
