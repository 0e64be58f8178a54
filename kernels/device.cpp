#include "kernels/device.hpp"

#include <chrono>

#include "kernels/operation.hpp"

namespace lorashard::kernels {

const char* name(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::host:
      return "host";
    case DeviceKind::cuda:
      return "cuda";
    case DeviceKind::meta:
      return "meta";
  }
  return "?";
}

namespace {

class HostMoment final : public Moment {
 public:
  double seconds_since(const Moment& earlier) const override {
    return std::chrono::duration<double>(at_ - static_cast<const HostMoment&>(earlier).at_).count();
  }

 private:
  std::chrono::steady_clock::time_point at_ = std::chrono::steady_clock::now();
};

}  // namespace

std::unique_ptr<Moment> Device::moment() { return std::make_unique<HostMoment>(); }

Buffer::Buffer(Device& device, Account account, Index bytes)
    : device_(&device), data_(device.acquire(bytes)), bytes_(bytes), account_(account) {
  if (device.profile().again()) account_.kind = ActivationKind::recomputed;
  device.ledger().add(account_, bytes);
}

void Buffer::release() noexcept {
  if (device_ != nullptr) {
    device_->ledger().remove(account_, bytes_);
    device_->give_back(data_, bytes_);
  }
  device_ = nullptr;
  data_ = nullptr;
  bytes_ = 0;
}

namespace {

// True when there is something to move.
bool check_transfer(Device& device, const char* what, const ConstMatrix& from, const ConstMatrix& to) {
  expect_extents(what, "to", to, from.rows, from.cols);
  expect_dtype(what, "to", to, from.dtype);
  return !device.meta() && !from.empty();
}

}  // namespace

void upload(Device& device, ConstMatrix host, Matrix to) {
  if (check_transfer(device, "upload", host, to)) device.move_in(host, to);
}

void download(Device& device, ConstMatrix from, Matrix host) {
  if (check_transfer(device, "download", from, host)) device.move_out(from, host);
}

void duplicate(Device& device, ConstMatrix from, Matrix to) {
  if (check_transfer(device, "duplicate", from, to) && from.data != to.data) device.move_within(from, to);
}

Integers::Integers(Device& device, Account account, std::span<const std::int32_t> values)
    : buffer_(device, account, static_cast<Index>(values.size_bytes())) {
  static_assert(sizeof(std::int32_t) == sizeof(float));
  const Index count = static_cast<Index>(values.size());
  if (device.meta()) {
    view_ = values;
    return;
  }
  // Four bytes are moved as four bytes, whatever they mean.
  upload(device, {reinterpret_cast<const std::byte*>(values.data()), DType::f32, 1, count, count},
         {buffer_.data(), DType::f32, 1, count, count});
  view_ = {reinterpret_cast<const std::int32_t*>(buffer_.data()), values.size()};
}

}  // namespace lorashard::kernels
