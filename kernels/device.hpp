// A device: memory that is counted, and the place where operations run.
//
//   host   real memory, oneDNN and OpenMP; an operation is done when its function returns
//   cuda   memory of a GPU; an operation is queued on the device's stream, in the order of the calls
//   meta   no storage: buffers have extents and null data; operations and collectives only record their cost
//
// Operations are free functions that take the device first: gemm(device, {...}). Each checks its arguments, records
// its cost in profile() and runs the meaning that belongs to kind(). Device memory is touched by operations and by the
// transfers below, and by nothing else.
#pragma once

#include <memory>
#include <span>
#include <utility>
#include <vector>

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
  // An activation that is made while the profile's work is done again counts as recomputed.
  Buffer(Device& device, Account account, Index bytes);
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
    std::swap(account_, other.account_);
  }
  Device* device_ = nullptr;
  std::byte* data_ = nullptr;
  Index bytes_ = 0;
  Account account_;
};

// A small result on its way to the host. One copy is under way at a time.
class Readback {
 public:
  virtual ~Readback() = default;
  // Queues the copy of `from` (contiguous, of the bytes that this was made for), behind the operations queued so far.
  virtual void start(ConstMatrix from) = 0;
  // Waits for that copy, not for what was queued after it. Zeros on meta. Valid until the next start().
  virtual std::span<const std::byte> wait() = 0;
};

// A place in the order of a device's work, and the time when the device came there.
class Moment {
 public:
  virtual ~Moment() = default;
  // From an earlier moment of the same device. Waits until both have come to pass.
  virtual double seconds_since(const Moment& earlier) const = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  DeviceKind kind() const { return kind_; }
  bool meta() const { return kind_ == DeviceKind::meta; }
  // Whose rules for workspace hold: kind() itself, and on meta the kind that is planned for.
  DeviceKind target() const { return target_; }
  // Waits until everything queued so far is done.
  virtual void synchronize() {}
  virtual std::unique_ptr<Readback> make_readback(Index bytes) = 0;
  // Behind what was queued so far; without a queue, now.
  virtual std::unique_ptr<Moment> moment();
  Ledger& ledger() { return ledger_; }
  Profile& profile() { return profile_; }

 protected:
  Device(DeviceKind kind, DeviceKind target) : kind_(kind), target_(target) {}

 private:
  friend class Buffer;
  friend void upload(Device&, ConstMatrix, Matrix);
  friend void download(Device&, ConstMatrix, Matrix);
  friend void duplicate(Device&, ConstMatrix, Matrix);
  // Uninitialised memory; throws Failure::memory with the bytes asked for. Null for zero bytes and on meta.
  virtual std::byte* acquire(Index bytes) = 0;
  virtual void give_back(std::byte* data, Index bytes) noexcept = 0;
  // Checked copies: equal extents and types, nothing empty.
  virtual void move_in(ConstMatrix host, Matrix to) = 0;
  virtual void move_out(ConstMatrix from, Matrix host) = 0;
  virtual void move_within(ConstMatrix from, Matrix to) = 0;

  DeviceKind kind_;
  DeviceKind target_;
  Ledger ledger_;
  Profile profile_;
};

// `threads` OpenMP threads for everything that runs on the host device of this process.
std::unique_ptr<Device> make_host_device(int threads);
// `target`: host or cuda.
std::unique_ptr<Device> make_meta_device(DeviceKind target = DeviceKind::host);
// GPU number `ordinal` of this process. Throws Failure::configuration when this program was built without CUDA, when
// there is no such GPU, and for one that is older than what was compiled for, by name.
// `tf32`: products of fp32 operands may round them to TF32's 10 bits, which tensor cores multiply.
std::unique_ptr<Device> make_cuda_device(int ordinal, bool tf32 = false);
int cuda_device_count();  // 0 when built without CUDA, or without a driver
// "CUDA 13.0 for sm_80, sm_86, sm_90, sm_100", "CUDA 13.0, emulated", or "without CUDA".
std::string cuda_build();

// to = host, element for element: same extents and type, any strides. The host memory may be used again on return.
void upload(Device& device, ConstMatrix host, Matrix to);
// host = from. Waits for the operations queued so far.
void download(Device& device, ConstMatrix from, Matrix host);
// to = from within the device: same extents and type. Unlike copy() it is no part of a model and counts as no work.
void duplicate(Device& device, ConstMatrix from, Matrix to);

// Token ids or labels where this device's operations read them; the source may be used again on return.
class Integers {
 public:
  // On meta they are not copied, and must outlive this.
  Integers(Device& device, Account account, std::span<const std::int32_t> values);
  // Device memory. On meta the values themselves.
  std::span<const std::int32_t> view() const { return view_; }

 private:
  Buffer buffer_;
  std::span<const std::int32_t> view_;
};

// An owned contiguous matrix.
class Tensor {
 public:
  Tensor() = default;
  Tensor(Device& device, Account account, DType dtype, Index rows, Index cols)
      : buffer_(device, account, rows * cols * size_bytes(dtype)), dtype_(dtype), rows_(rows), cols_(cols) {}

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
