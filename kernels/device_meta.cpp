#include "kernels/device.hpp"

namespace lorashard::kernels {
namespace {

// Buffers have a size and no storage; operations only record what they would have cost.
class MetaDevice final : public Device {
 public:
  MetaDevice() : Device(DeviceKind::meta) {}

 private:
  std::byte* acquire(Index) override { return nullptr; }
  void give_back(std::byte*, Index) noexcept override {}
};

}  // namespace

std::unique_ptr<Device> make_meta_device() { return std::make_unique<MetaDevice>(); }

}  // namespace lorashard::kernels
