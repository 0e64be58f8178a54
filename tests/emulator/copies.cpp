// Copies and fills. Host memory that is not pinned is read at the call, and written before the call returns; pinned
// memory is read and written when the stream gets there, so that using it again too early shows.
#include <cstring>
#include <memory>
#include <vector>

#include "tests/emulator/memory.hpp"
#include "tests/emulator/streams.hpp"

namespace lorashard::emulator {
namespace {

// `rows` rows of `row_bytes`.
struct Copy {
  void* to;
  std::size_t to_stride;
  const void* from;
  std::size_t from_stride;
  std::size_t row_bytes;
  std::size_t rows;

  std::size_t to_span() const { return (rows - 1) * to_stride + row_bytes; }
  std::size_t from_span() const { return (rows - 1) * from_stride + row_bytes; }
  void run() const {
    for (std::size_t i = 0; i < rows; ++i) {
      std::memmove(static_cast<char*>(to) + i * to_stride, static_cast<const char*>(from) + i * from_stride, row_bytes);
    }
  }
};

bool direction_fits(const Copy& copy, cudaMemcpyKind kind) {
  const bool to = on_device(copy.to), from = on_device(copy.from);
  switch (kind) {
    case cudaMemcpyHostToHost:
      return !to && !from;
    case cudaMemcpyHostToDevice:
      return to && !from;
    case cudaMemcpyDeviceToHost:
      return !to && from;
    case cudaMemcpyDeviceToDevice:
      return to && from;
    default:
      return true;
  }
}

cudaError_t start(Copy copy, cudaMemcpyKind kind, cudaStream_t stream, const char* call) {
  if (copy.row_bytes == 0 || copy.rows == 0) return cudaSuccess;
  if (copy.rows > 1 && (copy.to_stride < copy.row_bytes || copy.from_stride < copy.row_bytes))
    return cudaErrorInvalidPitchValue;
  if (!direction_fits(copy, kind)) {
    fault(call, "the addresses do not lie where the direction of the copy says");
    return cudaErrorInvalidValue;
  }
  const bool to_device = on_device(copy.to), from_device = on_device(copy.from);
  std::vector<Access> accesses;
  if (from_device) accesses.push_back({copy.from, copy.row_bytes, copy.rows, copy.from_stride, false});
  if (to_device) accesses.push_back({copy.to, copy.row_bytes, copy.rows, copy.to_stride, true});
  std::shared_ptr<std::vector<char>> taken;
  if (!from_device && !is_pinned(copy.from, copy.from_span())) {
    taken = std::make_shared<std::vector<char>>(copy.from_span());
    std::memcpy(taken->data(), copy.from, taken->size());
    copy.from = taken->data();
  }
  const bool returns_at_once = to_device || is_pinned(copy.to, copy.to_span());
  queue(stream,
        {.name = call, .accesses = std::move(accesses), .work = [copy, taken](const Operation&) { copy.run(); }});
  if (!returns_at_once) wait_for(stream);
  return cudaSuccess;
}

cudaError_t fill(void* data, int value, std::size_t bytes, cudaStream_t stream, const char* call) {
  if (bytes == 0) return cudaSuccess;
  queue(stream, {.name = call,
                 .accesses = {{data, bytes, 1, bytes, true}},
                 .work = [data, value, bytes](const Operation&) { std::memset(data, value, bytes); }});
  return cudaSuccess;
}

}  // namespace
}  // namespace lorashard::emulator

using namespace lorashard::emulator;

extern "C" {

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (!usable(stream, "cudaMemcpyAsync")) return cudaErrorInvalidResourceHandle;
  return start({to, bytes, from, bytes, bytes, 1}, kind, stream, "cudaMemcpyAsync");
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_stride, const void* from, std::size_t from_stride,
                              std::size_t row_bytes, std::size_t rows, cudaMemcpyKind kind, cudaStream_t stream) {
  if (!usable(stream, "cudaMemcpy2DAsync")) return cudaErrorInvalidResourceHandle;
  return start({to, to_stride, from, from_stride, row_bytes, rows}, kind, stream, "cudaMemcpy2DAsync");
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const cudaError_t result = start({to, bytes, from, bytes, bytes, 1}, kind, unnamed_stream(), "cudaMemcpy");
  cudaStreamSynchronize(unnamed_stream());
  return result;
}
cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream) {
  if (!usable(stream, "cudaMemsetAsync")) return cudaErrorInvalidResourceHandle;
  return fill(data, value, bytes, stream, "cudaMemsetAsync");
}
cudaError_t cudaMemset(void* data, int value, std::size_t bytes) {
  const cudaError_t result = fill(data, value, bytes, unnamed_stream(), "cudaMemset");
  cudaStreamSynchronize(unnamed_stream());
  return result;
}

}  // extern "C"
