// What the host's operations know of their device beyond the contract.
#pragma once

#include "kernels/device.hpp"
#include "kernels/host_memory.hpp"

namespace lorashard::kernels {

class HostDevice final : public Device {
 public:
  explicit HostDevice(int threads);

  // `device` must be a host device.
  static HostDevice& of(Device& device) { return static_cast<HostDevice&>(device); }

 private:
  std::byte* acquire(Index bytes) override;
  void give_back(std::byte* data, Index bytes) noexcept override { memory_.give_back(data, bytes); }

  HostMemory memory_;
};

}  // namespace lorashard::kernels
