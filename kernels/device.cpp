#include "kernels/device.hpp"

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

Buffer::Buffer(Device& device, Category category, Index bytes)
    : device_(&device), data_(device.acquire(bytes)), bytes_(bytes), category_(category) {
  device.ledger().add(category, bytes);
}

void Buffer::release() noexcept {
  if (device_ != nullptr) {
    device_->ledger().remove(category_, bytes_);
    device_->give_back(data_, bytes_);
  }
  device_ = nullptr;
  data_ = nullptr;
  bytes_ = 0;
}

}  // namespace lorashard::kernels
