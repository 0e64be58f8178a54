// Inside the emulator: what every emulated device is like.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace lorashard::emulator {

inline constexpr int kMultiprocessors = 4;
inline constexpr unsigned kLargestBlock = 1024;
inline constexpr uint3 kLargestGrid{2147483647, 65535, 65535};

std::size_t largest_shared_bytes();  // of a block that asks for more than 48 KiB

}  // namespace lorashard::emulator
