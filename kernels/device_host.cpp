#include <omp.h>

#include "kernels/device.hpp"
#include "kernels/host_memory.hpp"

namespace lorashard::kernels {
namespace {

class HostDevice final : public Device {
 public:
  explicit HostDevice(int threads) : Device(DeviceKind::host) {
    if (threads < 1) fail(Failure::configuration, text("device.threads is ", threads, ", expected 1 or more"));
    omp_set_num_threads(threads);
  }

 private:
  std::byte* acquire(Index bytes) override {
    std::byte* data = memory_.acquire(bytes);
    if (data == nullptr && bytes > 0) {
      fail(Failure::memory, text("host memory: ", bytes, " bytes asked for, refused by the system with ",
                                 ledger().current_bytes(), " bytes held"));
    }
    return data;
  }
  void give_back(std::byte* data, Index bytes) noexcept override { memory_.give_back(data, bytes); }

  HostMemory memory_;
};

}  // namespace

std::unique_ptr<Device> make_host_device(int threads) { return std::make_unique<HostDevice>(threads); }

}  // namespace lorashard::kernels
