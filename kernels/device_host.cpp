#include <omp.h>

#include "kernels/host_device.hpp"

namespace lorashard::kernels {

HostDevice::HostDevice(int threads) : Device(DeviceKind::host) {
  if (threads < 1) fail(Failure::configuration, text("device.threads is ", threads, ", expected 1 or more"));
  omp_set_num_threads(threads);
}

std::byte* HostDevice::acquire(Index bytes) {
  std::byte* data = memory_.acquire(bytes);
  if (data == nullptr && bytes > 0) {
    fail(Failure::memory, text("host memory: ", bytes, " bytes asked for, refused by the system with ",
                               ledger().current_bytes(), " bytes held"));
  }
  return data;
}

std::unique_ptr<Device> make_host_device(int threads) { return std::make_unique<HostDevice>(threads); }

}  // namespace lorashard::kernels
