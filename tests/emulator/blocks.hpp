// Inside the emulator: the block that is running. One runs at a time, under device_lock().
#pragma once

#include <array>
#include <boost/context/detail/fcontext.hpp>
#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/emulator/devices.hpp"
#include "tests/emulator/emulator.hpp"
#include "tests/emulator/streams.hpp"

namespace lorashard::emulator {

inline constexpr unsigned kLanes = 32;
inline constexpr std::size_t kLargestExchange = 64;  // bytes of a lane
inline constexpr std::size_t kStackBytes = 64 * 1024;
inline constexpr std::size_t kGuardBytes = 4096;       // of it, that may not be touched
inline constexpr std::size_t kSharedWindow = 1 << 20;  // addresses around shared memory that are looked at

// A context of its own stack, that runs one thread of a block after another.
struct Fiber {
  boost::context::detail::fcontext_t context = nullptr;
  unsigned char* stack = nullptr;
};

enum class Wait { nothing, barrier, exchange, ended };

struct Thread {
  uint3 index;
  unsigned number = 0;
  Wait wait = Wait::nothing;
  Fiber* fiber = nullptr;
  unsigned mask = 0;
  std::size_t bytes = 0;
  alignas(16) std::array<std::byte, kLargestExchange> mine;
  alignas(16) std::array<std::byte, kLanes * kLargestExchange> all;

  unsigned warp() const { return number / kLanes; }
  unsigned lane() const { return number % kLanes; }
};

struct Block {
  const Operation* operation = nullptr;
  const Closure* body = nullptr;
  dim3 grid;
  dim3 extent;
  uint3 index;
  unsigned thread_count = 0;
  std::size_t shared_bytes = 0;
  Thread* thread = nullptr;  // that runs
  bool abandoned = false;    // after a fault that must not go on

  // Time within a launch: grows at every start of a block, __syncthreads and __syncwarp. What two threads of a block
  // did is ordered when they have met between.
  std::uint32_t tick = 0;
  std::uint32_t start_tick = 0;
  std::uint32_t barrier_tick = 0;
  std::array<std::uint32_t, kLargestBlock / kLanes> warp_tick{};         // of __syncwarp of the whole warp
  std::uint32_t met_ticks[kLargestBlock / kLanes][kLanes][kLanes] = {};  // of a part: per pair of lanes
  bool met_in_parts = false;                                             // those are not all zero
};

// The one block; its `thread` is null where none runs.
inline Block the_block;
inline Block& running_block() { return the_block; }
// True on the thread that works off a kernel.
inline thread_local constinit bool working_off_kernel = false;
inline bool in_kernel() { return working_off_kernel; }
// True, there, while code of the kernel runs and not of the emulator.
inline bool in_kernel_code = false;
class OutsideKernelCode {
 public:
  OutsideKernelCode() { in_kernel_code = false; }
  ~OutsideKernelCode() { in_kernel_code = true; }
};
// Runs a kernel; under device_lock().
void run_grid(const Operation& operation, const Closure& body, dim3 grid, dim3 extent, std::size_t shared_bytes);
// Leaves the running block for good, from within one of its threads. Does not return.
void abandon_block();
// "block (1,0,0) thread (3,0,0)".
std::string where_in(const Block& block);
inline unsigned char* shared_base() {  // amid its window
  alignas(4096) static unsigned char window[kSharedWindow];
  return window + kSharedWindow / 2;
}

}  // namespace lorashard::emulator
