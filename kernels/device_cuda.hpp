// What the cuda device is made of. Private to the files device_cuda*.cu.
#pragma once

#include <deque>
#include <exception>
#include <utility>
#include <vector>

#include "kernels/cuda.hpp"
#include "kernels/device_cuda_clock.hpp"
#include "kernels/gemm_cuda.hpp"

namespace lorashard::kernels {

// An event without timing, the cheapest kind. Move-only.
class CudaEvent {
 public:
  CudaEvent() { checked(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags"); }
  ~CudaEvent() {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }
  CudaEvent(CudaEvent&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  CudaEvent& operator=(CudaEvent&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  void record(cudaStream_t stream) { checked(cudaEventRecord(event_, stream), "cudaEventRecord"); }
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// Page-locked host memory, which the device copies from and to by itself. Where an error is on its way up, memory that
// a copy may still use is kept rather than waited for: that copy may stand behind a collective whose peer is gone.
class PinnedMemory {
 public:
  PinnedMemory(std::size_t bytes, cudaStream_t user) : user_(user) {
    checked(cudaMallocHost(reinterpret_cast<void**>(&data_), bytes), "cudaMallocHost");
  }
  ~PinnedMemory() {
    if (std::uncaught_exceptions() == 0) cudaStreamSynchronize(user_);
    if (cudaStreamQuery(user_) == cudaSuccess) cudaFreeHost(data_);
    cudaGetLastError();
  }
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  cudaStream_t user_;
};

// Host memory on its way to or from the device: pieces of one pinned ring, taken and finished in order. A piece is
// taken again when its event has come to pass.
class StagingRing {
 public:
  static constexpr Index kPieceBytes = Index{4} << 20;  // at 25 GB/s 0.17 ms: long beside the cost of a copy's launch
  static constexpr Index kRingBytes = 4 * kPieceBytes;

  explicit StagingRing(CudaDevice& device);
  // `bytes` (at most kPieceBytes) of the ring. Waits for the oldest pieces where there is no room, never for the piece
  // taken last, of which this leaves the bytes alone.
  std::byte* take(Index bytes);
  // The copy from or into the piece taken last has been queued; finish() is called once for each take().
  void finish();
  // Waits for the copy of the piece taken last or, with `age` 1, for the one before it.
  void wait(int age);

 private:
  struct Piece {
    Index first = 0, end = 0;  // bytes of the ring
    CudaEvent done;
  };
  bool overlaps(Index first, Index end) const;
  void retire();  // waits for the oldest piece

  static constexpr std::size_t kMostPieces = 64;
  CudaDevice& device_;
  PinnedMemory memory_;
  std::deque<Piece> pieces_;  // oldest first
  std::vector<CudaEvent> events_;
  Index head_ = 0;
};

struct CudaDevice::State {
  explicit State(int ordinal) : ordinal(ordinal) {}
  ~State();  // of what is left when a constructor was left half-way, too

  int ordinal;
  cudaDeviceProp properties{};
  cudaStream_t stream = nullptr;
  cudaMemPool_t pool = nullptr;
  std::vector<std::pair<const void*, std::function<void()>>> pollers;
  std::unique_ptr<CudaPhaseClock> clock;
  std::unique_ptr<StagingRing> staging;
  std::unique_ptr<Products> products;
};

}  // namespace lorashard::kernels
