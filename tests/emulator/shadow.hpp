// Inside the emulator: the checks made on every access to device and shared memory. Guarded by device_lock().
#pragma once

#include <cstddef>

#include "tests/emulator/cells.hpp"

namespace lorashard::emulator {

// Memory handed out and taken back, in the order of the stream it is done on.
void shadow_allocate(const Operation& operation, const void* data, std::size_t bytes);
void shadow_free(const Operation& operation, const void* data);

// Makes `operation` the current one, and checks and notes its declared accesses. False: memory is touched that is not
// allocated, and the operation must be left out.
bool shadow_operation(const Operation& operation);

// An access of the running thread of a kernel. False: not its memory, and the thread must not go on.
bool device_access(const void* data, std::size_t bytes, Kind kind);
bool shared_access(const void* data, std::size_t bytes, Kind kind);

}  // namespace lorashard::emulator
