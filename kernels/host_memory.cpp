#include "kernels/host_memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

namespace lorashard::kernels {
namespace {

// Blocks of this size and more are mapped and pooled. Under AddressSanitizer all that fit come from malloc, where it
// watches their ends and their use after release.
#ifdef __SANITIZE_ADDRESS__
constexpr Index kLarge = Index{1} << 39;
#else
constexpr Index kLarge = Index{128} << 10;
#endif
// Blocks that hold whole huge pages ask for them: fewer faults, and products stop missing the TLB.
constexpr Index kHugePage = Index{2} << 20;

std::byte* map(Index bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  if (bytes >= 2 * kHugePage) madvise(data, bytes, MADV_HUGEPAGE);  // a hint; refusal changes speed only
  return static_cast<std::byte*>(data);
}

}  // namespace

std::byte* HostMemory::acquire(Index bytes) {
  if (bytes == 0) return nullptr;
  if (bytes < kLarge) {
    const Index whole = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return static_cast<std::byte*>(std::aligned_alloc(kAlignment, whole));
  }
  std::byte* data = reuse(bytes);
  if (data == nullptr) {
    const Index limit = std::max(used_peak_, used_ + bytes);
    shrink_to(std::max<Index>(0, limit + limit / 32 - used_ - bytes));
    data = map(bytes);
    if (data == nullptr && waiting_bytes_ > 0) {
      shrink_to(0);
      data = map(bytes);
    }
    if (data == nullptr) return nullptr;
  }
  used_ += bytes;
  used_peak_ = std::max(used_peak_, used_);
  return data;
}

void HostMemory::give_back(std::byte* data, Index bytes) noexcept {
  if (data == nullptr) return;
  if (bytes < kLarge) return std::free(data);
  used_ -= bytes;
  try {
    waiting_.push_back({data, bytes});
    waiting_bytes_ += bytes;
  } catch (const std::bad_alloc&) {
    munmap(data, bytes);
  }
}

std::byte* HostMemory::reuse(Index bytes) {
  // The latest one: its lines may still be in a cache.
  const auto found = std::find_if(waiting_.rbegin(), waiting_.rend(), [&](const Block& b) { return b.bytes == bytes; });
  if (found == waiting_.rend()) return nullptr;
  std::byte* data = found->data;
  waiting_.erase(std::next(found).base());
  waiting_bytes_ -= bytes;
  return data;
}

void HostMemory::shrink_to(Index waiting_bytes) noexcept {
  auto block = waiting_.begin();
  for (; waiting_bytes_ > waiting_bytes && block != waiting_.end(); ++block) {
    munmap(block->data, block->bytes);
    waiting_bytes_ -= block->bytes;
  }
  waiting_.erase(waiting_.begin(), block);
}

}  // namespace lorashard::kernels
