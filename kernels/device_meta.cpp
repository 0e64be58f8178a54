#include "kernels/cuda_operations.hpp"

namespace lorashard::kernels {
namespace {

class MetaReadback final : public Readback {
 public:
  explicit MetaReadback(Index bytes) : zeros_(bytes) {}
  void start(ConstMatrix) override {}
  std::span<const std::byte> wait() override { return zeros_; }

 private:
  std::vector<std::byte> zeros_;
};

// Buffers have a size and no storage; operations only record what they would have cost.
class MetaDevice final : public Device {
 public:
  explicit MetaDevice(DeviceKind target)
      : Device(DeviceKind::meta, target),
        products_(*this, Category::workspace, target == DeviceKind::cuda ? kCudaProductWorkspaceBytes : 0) {}
  std::unique_ptr<Readback> make_readback(Index bytes) override { return std::make_unique<MetaReadback>(bytes); }

 private:
  std::byte* acquire(Index) override { return nullptr; }
  void give_back(std::byte*, Index) noexcept override {}
  void move_in(ConstMatrix, Matrix) override {}
  void move_out(ConstMatrix, Matrix) override {}
  void move_within(ConstMatrix, Matrix) override {}

  Buffer products_;  // what a cuda device holds for itself
};

}  // namespace

std::unique_ptr<Device> make_meta_device(DeviceKind target) { return std::make_unique<MetaDevice>(target); }

}  // namespace lorashard::kernels
