// Inside the emulator: which operations are ordered before the one that runs. Guarded by device_lock().
#pragma once

#include <cstdint>
#include <string>

#include "tests/emulator/streams.hpp"

namespace lorashard::emulator {

// Numbers of operations as memory remembers them. From kReaderSets on they stand for sets of operations that read the
// same bytes in no order of each other; the latest of a set is its last member.
inline constexpr std::uint32_t kReaderSets = 1u << 24;

// From now on this operation runs.
void begin_operation(const Operation& operation);
inline const Operation* current_operation = nullptr;

// True when every operation that `number` stands for is the current one or ordered before it.
bool search_order_before_current(std::uint32_t number);
inline std::uint32_t last_ordered = 0;  // what was asked last and is
inline bool ordered_before_current(std::uint32_t number) {
  return number == last_ordered || search_order_before_current(number);
}
std::uint32_t latest_of_set(std::uint32_t number);
inline std::uint32_t latest_of(std::uint32_t number) { return number < kReaderSets ? number : latest_of_set(number); }
// Stands for `readers` and the current operation.
std::uint32_t with_current(std::uint32_t readers);
// "'scale<float>' (operation 12, stream 1)" of one that is not ordered before the current one.
std::string unordered_name(std::uint32_t number);

// Faults of the current operation; each kind of it is reported once an operation.
void report(const char* kind, const std::string& what);

}  // namespace lorashard::emulator
