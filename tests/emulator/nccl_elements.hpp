// NCCL's element types and reductions.
#pragma once

#include <nccl.h>

#include <cstddef>
#include <string>

namespace lorashard::emulator::nccl {

std::size_t size_bytes(ncclDataType_t type);  // 0 for what is no type
std::string name(ncclDataType_t type);
std::string name(ncclRedOp_t reduction);

// Sums, extremes and averages of f32, f64, bf16 and the integer types (averages: of the floating ones).
bool reducible(ncclDataType_t type, ncclRedOp_t reduction);

// into = reduction of (into, with), element by element, each rounded into its type. A maximum or minimum passes over
// NaN, as fmaxf does on a GPU.
void combine(ncclDataType_t type, ncclRedOp_t reduction, const std::byte* with, std::byte* into, std::size_t count);

// What a rank gives to an average is its values times 1 / ranks, rounded into their type; what follows is a sum.
void scale_for_average(ncclDataType_t type, int ranks, std::byte* values, std::size_t count);

}  // namespace lorashard::emulator::nccl
