// Memory of the host device.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/view.hpp"

namespace lorashard::kernels {

// A step frees and asks for the same sizes over and over. Pages that went back to the kernel in between would be
// zeroed and faulted in again (about 0.3 s a GB), so a freed large block waits here for the next request of its exact
// size. Blocks in use and blocks that wait stay together below the most that was ever in use, plus 1/32: the pool
// makes a step faster, never a job bigger.
class HostMemory {
 public:
  static constexpr Index kAlignment = 64;

  HostMemory() = default;
  ~HostMemory() { shrink_to(0); }
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  // Uninitialised. Null for zero bytes, and when the system has no more.
  std::byte* acquire(Index bytes);
  void give_back(std::byte* data, Index bytes) noexcept;

  // Of large blocks; small ones are malloc's.
  Index used_bytes() const { return used_; }
  Index waiting_bytes() const { return waiting_bytes_; }

 private:
  struct Block {
    std::byte* data;
    Index bytes;
  };
  std::byte* reuse(Index bytes);
  // Gives the blocks that have waited longest back to the system.
  void shrink_to(Index waiting_bytes) noexcept;

  std::vector<Block> waiting_;  // longest first; some hundred at most, so a scan is cheap beside touching a block
  Index waiting_bytes_ = 0;
  Index used_ = 0;
  Index used_peak_ = 0;
};

}  // namespace lorashard::kernels
