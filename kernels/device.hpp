// A device: memory that is counted, and the place where operations run.
//
//   host   real memory, oneDNN and OpenMP
//   cuda   joins behind the same interface
//   meta   no storage: buffers have extents and null data; operations and collectives only record their cost
//
// Operations are free functions that take the device first: gemm(device, {...}). Each checks its arguments, records
// its cost in profile() and runs the meaning that belongs to kind().
#pragma once

#include <memory>
#include <utility>

#include "kernels/ledger.hpp"
#include "kernels/profile.hpp"
#include "kernels/view.hpp"

namespace lorashard::kernels {

enum class DeviceKind { host, cuda, meta };
const char* name(DeviceKind kind);

class Device;

// Owns device memory; gives it back to the ledger it was counted in. The device must outlive it.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device& device, Category category, Index bytes);
  ~Buffer() { release(); }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer(std::move(other)).swap(*this);
    return *this;
  }
  std::byte* data() const { return data_; }  // 64-byte aligned; null on meta
  Index bytes() const { return bytes_; }
  void release() noexcept;

 private:
  void swap(Buffer& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(category_, other.category_);
  }
  Device* device_ = nullptr;
  std::byte* data_ = nullptr;
  Index bytes_ = 0;
  Category category_ = Category::workspace;
};

class Device {
 public:
  virtual ~Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  DeviceKind kind() const { return kind_; }
  bool meta() const { return kind_ == DeviceKind::meta; }
  Ledger& ledger() { return ledger_; }
  Profile& profile() { return profile_; }

 protected:
  explicit Device(DeviceKind kind) : kind_(kind) {}

 private:
  friend class Buffer;
  // Uninitialised memory; throws Failure::memory with the bytes asked for. Null for zero bytes and on meta.
  virtual std::byte* acquire(Index bytes) = 0;
  virtual void give_back(std::byte* data, Index bytes) noexcept = 0;

  DeviceKind kind_;
  Ledger ledger_;
  Profile profile_;
};

// `threads` OpenMP threads for everything that runs on the host device of this process.
std::unique_ptr<Device> make_host_device(int threads);
std::unique_ptr<Device> make_meta_device();

// An owned contiguous matrix.
class Tensor {
 public:
  Tensor() = default;
  Tensor(Device& device, Category category, DType dtype, Index rows, Index cols)
      : buffer_(device, category, rows * cols * size_bytes(dtype)), dtype_(dtype), rows_(rows), cols_(cols) {}

  operator Matrix() { return view(); }
  operator ConstMatrix() const { return view(); }
  Matrix view() { return {buffer_.data(), dtype_, rows_, cols_, cols_}; }
  ConstMatrix view() const { return {buffer_.data(), dtype_, rows_, cols_, cols_}; }
  DType dtype() const { return dtype_; }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index count() const { return rows_ * cols_; }
  // True when it holds nothing (never allocated, or reset).
  bool none() const { return rows_ == 0; }
  void reset() { *this = Tensor(); }

 private:
  Buffer buffer_;
  DType dtype_ = DType::f32;
  Index rows_ = 0;
  Index cols_ = 0;
};

}  // namespace lorashard::kernels
