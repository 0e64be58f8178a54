// Inside the emulator: the arena that device memory lies in.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace lorashard::emulator {

inline constexpr std::size_t kArenaBytes = std::size_t{1} << 34;  // of addresses; how much may be in use is a setting
inline constexpr std::size_t kGranuleBytes = 256;  // alignment of allocations, and least gap between them

// First byte of the arena; reserved at the first call. No access to it is allowed while no operation runs.
unsigned char* arena();
// The same for the checks of each access; until the arena is there, beyond all addresses.
inline std::uintptr_t arena_start = ~kArenaBytes;
inline std::size_t offset_in(const void* base, const void* data) {  // beyond every extent when below
  return static_cast<std::size_t>(static_cast<const unsigned char*>(data) - static_cast<const unsigned char*>(base));
}
inline bool on_device(const void* data) { return reinterpret_cast<std::uintptr_t>(data) - arena_start < kArenaBytes; }

// No allocation reaches beyond this offset.
inline std::atomic<std::size_t> arena_top = 0;
struct Range {
  std::size_t offset = 0;
  std::size_t bytes = 0;
};
Range allocation_at(std::size_t offset);  // empty where none is

// While one exists, device memory may be touched.
class OpenMemory {
 public:
  OpenMemory();
  ~OpenMemory();
  OpenMemory(const OpenMemory&) = delete;
  OpenMemory& operator=(const OpenMemory&) = delete;
};

// True where all of [data, data + bytes) is one live allocation of pinned host memory.
bool is_pinned(const void* data, std::size_t bytes);

// Address space, zero and taken only where it is touched; large ones in large pages where the system has them, without
// which opening and closing 16 MiB takes a millisecond.
void* reserve(std::size_t bytes, bool accessible);

}  // namespace lorashard::emulator
