// What the emulator's own tests share: a stream, device memory that lasts as long as the test, and the faults
// collected.
#pragma once

#include <cuda_runtime.h>

#include <string>
#include <vector>

#include "tests/emulator/queue.hpp"

namespace lorashard::emulator {

class Planted {
 public:
  Planted() {
    collect_faults();
    take_faults();
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  }
  ~Planted() {
    cudaDeviceSynchronize();
    for (void* memory : made_) cudaFree(memory);
    cudaStreamDestroy(stream);
    take_faults();
  }

  // Device memory never written, of a size that is exactly `count` elements.
  template <class T>
  T* make(std::size_t count) {
    void* memory = nullptr;
    cudaMallocAsync(&memory, count * sizeof(T), stream);
    made_.push_back(memory);
    return static_cast<T*>(memory);
  }
  template <class T>
  T* give(const std::vector<T>& values) {
    T* memory = make<T>(values.size());
    cudaMemcpyAsync(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice, stream);
    return memory;
  }
  template <class T>
  std::vector<T> fetch(const T* memory, std::size_t count) {
    std::vector<T> values(count);
    cudaMemcpyAsync(values.data(), memory, count * sizeof(T), cudaMemcpyDeviceToHost, stream);
    return values;
  }
  // Waits for everything; all faults since the last call, a line each.
  std::string faults() {
    cudaDeviceSynchronize();
    std::string lines;
    for (const std::string& line : take_faults()) lines += line + "\n";
    return lines;
  }

  cudaStream_t stream = nullptr;

 private:
  std::vector<void*> made_;
};

}  // namespace lorashard::emulator
