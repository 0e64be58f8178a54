#include "tests/emulator/nccl_elements.hpp"

#include <cuda_bf16.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace lorashard::emulator::nccl {
namespace {

// act(T{}) for the type's C++ counterpart; false when reductions do not know the type.
template <class Act>
bool with_type(ncclDataType_t type, const Act& act) {
  switch (type) {
    case ncclInt8:
      act(std::int8_t{});
      return true;
    case ncclUint8:
      act(std::uint8_t{});
      return true;
    case ncclInt32:
      act(std::int32_t{});
      return true;
    case ncclUint32:
      act(std::uint32_t{});
      return true;
    case ncclInt64:
      act(std::int64_t{});
      return true;
    case ncclUint64:
      act(std::uint64_t{});
      return true;
    case ncclFloat32:
      act(float{});
      return true;
    case ncclFloat64:
      act(double{});
      return true;
    case ncclBfloat16:
      act(__nv_bfloat16{});
      return true;
    default:
      return false;
  }
}

template <class T>
auto widened(T value) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>)
    return __bfloat162float(value);
  else
    return value;
}
template <class T, class Wide>
T narrowed(Wide value) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>)
    return __float2bfloat16_rn(value);
  else
    return static_cast<T>(value);
}

template <class T>
T reduced(ncclRedOp_t reduction, T a, T b) {
  if (reduction != ncclMax && reduction != ncclMin) return static_cast<T>(a + b);
  if constexpr (std::is_floating_point_v<T>)
    return reduction == ncclMax ? std::fmax(a, b) : std::fmin(a, b);
  else
    return reduction == ncclMax ? (a > b ? a : b) : (a < b ? a : b);
}

// Buffers need not be aligned to the type in messages.
template <class T>
T read(const std::byte* from, std::size_t i) {
  T value;
  std::memcpy(&value, from + i * sizeof(T), sizeof(T));
  return value;
}
template <class T>
void write(std::byte* to, std::size_t i, T value) {
  std::memcpy(to + i * sizeof(T), &value, sizeof(T));
}

}  // namespace

std::size_t size_bytes(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
      return 8;
    default:
      return 0;
  }
}

std::string name(ncclDataType_t type) {
  static const char* const names[] = {"int8",   "uint8",   "int32",   "uint32",  "int64",
                                      "uint64", "float16", "float32", "float64", "bfloat16"};
  return type >= 0 && type <= ncclBfloat16 ? names[type] : "type " + std::to_string(type);
}

std::string name(ncclRedOp_t reduction) {
  static const char* const names[] = {"sum", "prod", "max", "min", "avg"};
  return reduction >= 0 && reduction <= ncclAvg ? names[reduction] : "reduction " + std::to_string(reduction);
}

bool reducible(ncclDataType_t type, ncclRedOp_t reduction) {
  if (reduction != ncclSum && reduction != ncclMax && reduction != ncclMin && reduction != ncclAvg) return false;
  const bool floating = type == ncclFloat32 || type == ncclFloat64 || type == ncclBfloat16;
  return with_type(type, [](auto) {}) && (floating || reduction != ncclAvg);
}

void combine(ncclDataType_t type, ncclRedOp_t reduction, const std::byte* with, std::byte* into, std::size_t count) {
  with_type(type, [&](auto example) {
    using T = decltype(example);
    for (std::size_t i = 0; i < count; ++i)
      write(into, i, narrowed<T>(reduced(reduction, widened(read<T>(into, i)), widened(read<T>(with, i)))));
  });
}

void scale_for_average(ncclDataType_t type, int ranks, std::byte* values, std::size_t count) {
  with_type(type, [&](auto example) {
    using T = decltype(example);
    const auto factor = widened(narrowed<T>(1.0 / ranks));
    for (std::size_t i = 0; i < count; ++i) write(values, i, narrowed<T>(widened(read<T>(values, i)) * factor));
  });
}

}  // namespace lorashard::emulator::nccl
