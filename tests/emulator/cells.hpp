// Inside the emulator: who wrote and who read every two bytes of memory last, and whether the next access is ordered
// behind that. Guarded by device_lock().
//
// One writer and one reader are enough: an access that is ordered behind the last one takes its place, and what comes
// later is ordered behind both or is reported. Readers that are in no order of each other are kept as a group: of a
// warp, of a block, of several blocks, and of several operations (order.hpp). After FastTrack (Flanagan and Freund,
// PLDI 2009).
#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/emulator/blocks.hpp"
#include "tests/emulator/order.hpp"

namespace lorashard::emulator {

inline constexpr std::size_t kCellBytes = 2;

// An access: the operation, within it the thread (or group), and the block's tick. Zero means none.
class Stamp {
 public:
  static constexpr std::uint32_t kWarp = kLargestBlock;  // threads of one warp: kWarp + its number
  static constexpr std::uint32_t kBlock =
      kWarp + kLargestBlock / kLanes;                   // of one block; and an operation without threads
  static constexpr std::uint32_t kBlocks = kBlock + 1;  // of several blocks

  Stamp() = default;
  Stamp(std::uint32_t operation, std::uint32_t who, std::uint32_t tick)
      : bits_(std::uint64_t{operation} << 39 | std::uint64_t{who} << 28 | tick) {}
  bool none() const { return bits_ == 0; }
  std::uint32_t operation() const { return static_cast<std::uint32_t>(bits_ >> 39); }
  std::uint32_t who() const { return static_cast<std::uint32_t>(bits_ >> 28) & 2047; }
  std::uint32_t tick() const { return static_cast<std::uint32_t>(bits_) & kLastTick; }
  bool operator==(const Stamp&) const = default;
  static constexpr std::uint32_t kLastTick = (1u << 28) - 1;

 private:
  std::uint64_t bits_ = 0;
};

struct Cell {
  Stamp writer;
  Stamp reader;
  bool operator==(const Cell&) const = default;
};

// What is wrong with an access.
enum class Finding { nothing, never_written, race, no_order };

// By the running operation; `block` is the running block, or null for an operation without threads. `since`: stamps of
// operations with smaller numbers, and of the running one before `since_tick`, belong to an earlier use of the memory.
// On no_order or race, `other` is the access that it clashes with. `alone` is false for accesses that may meet within a
// launch (atomic ones, and single bytes, which share a cell).
struct Visit {
  const Block* block = nullptr;
  Stamp self;
  std::uint32_t since = 0;
  std::uint32_t since_tick = 0;
  bool alone = true;
  Stamp other;
};
enum class Kind { read, write, atomic };
// Of several findings, the first.
Finding note(Cell* first, Cell* end, Kind kind, Visit& visit);

}  // namespace lorashard::emulator
