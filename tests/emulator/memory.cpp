// Device memory handed out and taken back, pools, and pinned host memory.
//
// Addresses are handed out when the program calls, in host order; that an allocation lives is noted when its stream
// gets there. Freed memory is used again by whoever is ordered behind its release, so at once on the same stream.
#include "tests/emulator/memory.hpp"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>

#include "tests/emulator/shadow.hpp"
#include "tests/emulator/streams.hpp"

struct CUmemPoolHandle_st {
  int device = 0;
};

namespace lorashard::emulator {
namespace {

struct Free {
  std::size_t bytes = 0;
  Place released;
};

struct Heap {
  std::mutex mutex;
  std::map<std::size_t, std::size_t> live;  // offset -> bytes asked for
  std::map<std::size_t, Free> released;     // offset -> whole granules
  std::size_t top = kGranuleBytes;          // of what was ever handed out
  std::size_t in_use = 0;
  std::size_t total = std::size_t{4} << 30;
  std::map<const void*, std::size_t> pinned;
};
Heap& heap() {
  static Heap& all = *[] {
    auto* made = new Heap;
    if (const char* bytes = std::getenv("LORASHARD_EMULATOR_MEMORY")) made->total = std::strtoull(bytes, nullptr, 10);
    return made;
  }();
  return all;
}

std::size_t granules_bytes(std::size_t bytes) { return (bytes + kGranuleBytes - 1) / kGranuleBytes * kGranuleBytes; }

// Offset of `bytes` that may be written once `clock` is reached, or 0.
std::size_t place(std::size_t bytes, const Clock& clock) {
  Heap& all = heap();
  if (bytes > all.total - std::min(all.total, all.in_use)) return 0;
  const std::size_t whole = granules_bytes(bytes);
  auto best = all.released.end();  // the smallest that fits: a step that repeats finds its places again
  for (auto it = all.released.begin(); it != all.released.end(); ++it) {
    if (it->second.bytes < whole || !clock.covers(it->second.released)) continue;
    if (best == all.released.end() || it->second.bytes < best->second.bytes) best = it;
  }
  if (best != all.released.end()) {
    const auto [offset, free] = *best;
    all.released.erase(best);
    // What is left must hold a granule for the gap and one to use.
    if (free.bytes >= whole + 2 * kGranuleBytes) {
      all.released[offset + whole + kGranuleBytes] = {free.bytes - whole - kGranuleBytes, free.released};
    }
    return offset;
  }
  if (all.top + whole + kGranuleBytes > kArenaBytes) return 0;
  const std::size_t offset = all.top;
  all.top += whole + kGranuleBytes;
  arena_top = all.top;
  return offset;
}

cudaError_t allocate(void** data, std::size_t bytes, cudaStream_t stream, const char* call) {
  *data = nullptr;
  if (bytes == 0) return cudaSuccess;
  const Clock clock = clock_after(stream);
  {
    const std::lock_guard<std::mutex> lock(heap().mutex);
    const std::size_t offset = place(bytes, clock);
    if (offset == 0) return cudaErrorMemoryAllocation;
    heap().live[offset] = bytes;
    heap().in_use += bytes;
    *data = arena() + offset;
  }
  queue(stream,
        {.name = call, .work = [data = *data, bytes](const Operation& op) { shadow_allocate(op, data, bytes); }});
  return cudaSuccess;
}

cudaError_t release(void* data, cudaStream_t stream, const char* call) {
  if (data == nullptr) return cudaSuccess;
  const std::size_t offset = offset_in(arena(), data);
  std::size_t bytes;
  {
    const std::lock_guard<std::mutex> lock(heap().mutex);
    const auto found = heap().live.find(offset);
    if (found == heap().live.end()) {
      fault(call, "an address that is not the start of a live allocation");
      return cudaErrorInvalidValue;
    }
    bytes = found->second;
    heap().live.erase(found);
    heap().in_use -= bytes;
  }
  const Place at = queue(stream, {.name = call, .work = [data](const Operation& op) { shadow_free(op, data); }});
  const std::lock_guard<std::mutex> lock(heap().mutex);
  heap().released[offset] = {granules_bytes(bytes), at};
  return cudaSuccess;
}

}  // namespace

Range allocation_at(std::size_t offset) {
  const auto next = heap().live.upper_bound(offset);
  if (next == heap().live.begin()) return {};
  const auto& [start, bytes] = *std::prev(next);
  return offset - start < granules_bytes(bytes) ? Range{start, bytes} : Range{};
}

bool is_pinned(const void* data, std::size_t bytes) {
  const std::lock_guard<std::mutex> lock(heap().mutex);
  auto next = heap().pinned.upper_bound(data);
  if (next == heap().pinned.begin()) return false;
  const auto& [start, size] = *std::prev(next);
  const std::size_t offset = offset_in(start, data);
  if (offset >= size) return false;
  if (bytes > size - offset)
    fault("copy", std::to_string(bytes) + " bytes from byte " + std::to_string(offset) + " of " + std::to_string(size) +
                      " bytes of pinned memory");
  return true;
}

}  // namespace lorashard::emulator

using namespace lorashard::emulator;

extern "C" {

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  *pool = new CUmemPoolHandle_st{properties->location.id};
  return cudaSuccess;
}
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  delete pool;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, std::size_t) { return cudaSuccess; }
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  static CUmemPoolHandle_st one;
  *pool = &one;
  return cudaSuccess;
}

cudaError_t cudaMallocFromPoolAsync(void** data, std::size_t bytes, cudaMemPool_t, cudaStream_t stream) {
  if (!usable(stream, "cudaMallocFromPoolAsync")) return cudaErrorInvalidResourceHandle;
  return allocate(data, bytes, stream, "cudaMallocFromPoolAsync");
}
cudaError_t cudaMallocAsync(void** data, std::size_t bytes, cudaStream_t stream) {
  if (!usable(stream, "cudaMallocAsync")) return cudaErrorInvalidResourceHandle;
  return allocate(data, bytes, stream, "cudaMallocAsync");
}
cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
  if (!usable(stream, "cudaFreeAsync")) return cudaErrorInvalidResourceHandle;
  return release(data, stream, "cudaFreeAsync");
}
cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  const cudaError_t result = allocate(data, bytes, unnamed_stream(), "cudaMalloc");
  cudaStreamSynchronize(unnamed_stream());
  return result;
}
cudaError_t cudaFree(void* data) {  // waits for the whole device, as the real one does
  synchronize_all();
  const cudaError_t result = release(data, unnamed_stream(), "cudaFree");
  cudaStreamSynchronize(unnamed_stream());
  return result;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  const std::lock_guard<std::mutex> lock(heap().mutex);
  *total = heap().total;
  *free = heap().total - heap().in_use;
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** data, std::size_t bytes, unsigned) {
  *data = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (*data == nullptr) return cudaErrorMemoryAllocation;
  const std::lock_guard<std::mutex> lock(heap().mutex);
  heap().pinned[*data] = bytes;
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** data, std::size_t bytes) { return cudaHostAlloc(data, bytes, cudaHostAllocDefault); }
cudaError_t cudaFreeHost(void* data) {  // waits for the whole device, as the real one does
  if (data == nullptr) return cudaSuccess;
  synchronize_all();
  {
    const std::lock_guard<std::mutex> lock(heap().mutex);
    if (heap().pinned.erase(data) == 0) {
      fault("cudaFreeHost", "an address that is not the start of live pinned memory");
      return cudaErrorInvalidValue;
    }
  }
  std::free(data);
  return cudaSuccess;
}

}  // extern "C"
