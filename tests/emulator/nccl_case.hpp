// A communicator over all ranks of a test, its streams and its buffers.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <gtest/gtest.h>
#include <mpi.h>
#include <nccl.h>

#include <string>
#include <vector>

#include "tests/emulator/queue.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::emulator {

inline int ranks() { return runtime().size(); }
inline int rank() { return runtime().rank(); }

class Communicator {
 public:
  // Every rank has a GPU of its own.
  Communicator() {
    cudaSetDevice(rank());
    ncclUniqueId id;
    if (rank() == 0) {
      EXPECT_EQ(ncclGetUniqueId(&id), ncclSuccess);
    }
    MPI_Bcast(&id, sizeof(id), MPI_BYTE, 0, MPI_COMM_WORLD);
    EXPECT_EQ(ncclCommInitRank(&comm, ranks(), id, rank()), ncclSuccess) << ncclGetLastError(nullptr);
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&other_stream, cudaStreamNonBlocking);
  }
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  ~Communicator() {
    if (comm) {
      EXPECT_EQ(ncclCommDestroy(comm), ncclSuccess);
    }
    cudaStreamDestroy(stream);
    cudaStreamDestroy(other_stream);
  }

  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr, other_stream = nullptr;
};

template <class T>
struct TypeOf;
template <>
struct TypeOf<float> {
  static constexpr ncclDataType_t value = ncclFloat32;
};
template <>
struct TypeOf<double> {
  static constexpr ncclDataType_t value = ncclFloat64;
};
template <>
struct TypeOf<int> {
  static constexpr ncclDataType_t value = ncclInt32;
};
template <>
struct TypeOf<__nv_bfloat16> {
  static constexpr ncclDataType_t value = ncclBfloat16;
};

// Values of one type in device memory; written when it is made, or never.
template <class T>
class Array {
 public:
  explicit Array(std::size_t count) : count_(count) { EXPECT_EQ(cudaMalloc(&data_, count * sizeof(T)), cudaSuccess); }
  explicit Array(const std::vector<double>& values) : Array(values.size()) { write(values); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { cudaFree(data_); }

  T* at(std::size_t first = 0) const { return data_ + first; }
  void write(const std::vector<double>& values) {
    std::vector<T> raw;
    for (const double value : values) raw.push_back(static_cast<T>(static_cast<float>(value)));
    EXPECT_EQ(cudaMemcpy(data_, raw.data(), raw.size() * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  // Waits for `stream` first.
  std::vector<double> read(cudaStream_t stream) const {
    std::vector<T> raw(count_);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(raw.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    std::vector<double> values;
    for (const T value : raw) values.push_back(static_cast<double>(static_cast<float>(value)));
    return values;
  }

 private:
  std::size_t count_;
  T* data_ = nullptr;
};

// Small integers of a rank: sums over ranks are exact, and no two ranks or places are alike by accident.
inline double integer_of(int from, std::size_t i) {
  return static_cast<double>((i * 5 + i / 7 + static_cast<std::size_t>(from) * 11) % 13) - 6.0;
}
inline std::vector<double> integers_of(int from, std::size_t count, std::size_t first = 0) {
  std::vector<double> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = integer_of(from, first + i);
  return values;
}

}  // namespace lorashard::emulator
