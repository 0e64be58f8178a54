// The entry point libFuzzer calls; LORASHARD_FUZZ_TARGET names the target (tests/fuzz/run sets it).
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/targets.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  lorashard::fuzz::LORASHARD_FUZZ_TARGET({reinterpret_cast<const char*>(data), size});
  return 0;
}
