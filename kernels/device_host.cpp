#include <omp.h>

#include <cstring>

#include "kernels/device.hpp"
#include "kernels/host_memory.hpp"

namespace lorashard::kernels {
namespace {

void copy_rows(const ConstMatrix& from, const Matrix& to) {
  const auto row_bytes = static_cast<std::size_t>(from.cols * size_bytes(from.dtype));
  if (from.contiguous() && to.contiguous()) {
    std::memmove(to.data, from.data, row_bytes * static_cast<std::size_t>(from.rows));
    return;
  }
  for (Index r = 0; r < from.rows; ++r) std::memmove(to.row_range(r, 1).data, from.row_range(r, 1).data, row_bytes);
}

// What is queued is done already.
class HostReadback final : public Readback {
 public:
  explicit HostReadback(Index bytes) : values_(bytes) {}
  void start(ConstMatrix from) override { std::memcpy(values_.data(), from.data, values_.size()); }
  std::span<const std::byte> wait() override { return values_; }

 private:
  std::vector<std::byte> values_;
};

class HostDevice final : public Device {
 public:
  explicit HostDevice(int threads) : Device(DeviceKind::host, DeviceKind::host) {
    if (threads < 1) fail(Failure::configuration, text("device.threads is ", threads, ", expected 1 or more"));
    omp_set_num_threads(threads);
  }
  std::unique_ptr<Readback> make_readback(Index bytes) override { return std::make_unique<HostReadback>(bytes); }

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

  void move_in(ConstMatrix host, Matrix to) override { copy_rows(host, to); }
  void move_out(ConstMatrix from, Matrix host) override { copy_rows(from, host); }
  void move_within(ConstMatrix from, Matrix to) override { copy_rows(from, to); }

  HostMemory memory_;
};

}  // namespace

std::unique_ptr<Device> make_host_device(int threads) { return std::make_unique<HostDevice>(threads); }

}  // namespace lorashard::kernels
