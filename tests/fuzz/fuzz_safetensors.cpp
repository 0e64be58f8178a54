#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "core/safetensors.hpp"
#include "tests/fuzz/targets.hpp"

namespace lorashard::fuzz {
namespace {

using core::Index;
using core::SafeTensors;
using core::StoredType;

void check_entries(const std::map<std::string, SafeTensors::Entry>& entries, std::uint64_t data_bytes) {
  std::uint64_t sum = 0;
  for (const auto& [name, entry] : entries) {
    insist(entry.begin <= entry.end && entry.end <= data_bytes, "a tensor lies within the data");
    insist(entry.count() >= 0, "extents do not overflow");
    insist(entry.end - entry.begin >= static_cast<std::uint64_t>(entry.count()), "an element has a byte or more");
    sum += entry.end - entry.begin;
  }
  insist(sum == data_bytes, "the tensors are the data");
}

void feed_header(std::span<const char> input) {
  if (input.size() < 8) return;
  std::uint64_t data_bytes = 0;
  std::memcpy(&data_bytes, input.data(), 8);
  accepts([&] { check_entries(SafeTensors::parse_header(input.subspan(8), data_bytes, "input").entries, data_bytes); });
}

bool floating(StoredType type) {
  return type == StoredType::f64 || type == StoredType::f32 || type == StoredType::f16 || type == StoredType::bf16;
}

// The same bytes as a file: in memory, under the name the kernel gives it.
void feed_file(std::span<const char> input) {
  const int descriptor = ::memfd_create("input", MFD_CLOEXEC);
  insist(descriptor >= 0, "a file in memory can be made");
  insist(::write(descriptor, input.data(), input.size()) == static_cast<ssize_t>(input.size()), "it takes the bytes");
  const std::string path = kernels::text("/proc/self/fd/", descriptor);
  accepts([&] {
    const SafeTensors tensors = SafeTensors::open(path);
    for (const auto& [name, entry] : tensors.entries()) {
      const bool read = accepts([&, &name = name] { tensors.read(name); });
      insist(read == floating(entry.type), "floating tensors can be read, others cannot");
    }
  });
  ::close(descriptor);
}

}  // namespace

void safetensors(std::span<const char> input) {
  feed_header(input);
  feed_file(input);
}

}  // namespace lorashard::fuzz
