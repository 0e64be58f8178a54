#include <gtest/gtest.h>

#include <cstring>
#include <utility>
#include <vector>

#include "kernels/device.hpp"
#include "kernels/host_memory.hpp"

namespace lorashard::kernels {
namespace {

constexpr Index kMiB = Index{1} << 20;

class Devices : public testing::TestWithParam<DeviceKind> {
 protected:
  std::unique_ptr<Device> device_ = GetParam() == DeviceKind::host ? make_host_device(1) : make_meta_device();
};
INSTANTIATE_TEST_SUITE_P(Kinds, Devices, testing::Values(DeviceKind::host, DeviceKind::meta),
                         [](const auto& info) { return std::string(name(info.param)); });

TEST_P(Devices, CountsByCategory) {
  Ledger& ledger = device_->ledger();
  {
    Buffer base(*device_, Category::base, 1000);
    {
      Buffer work(*device_, Category::workspace, 500);
      EXPECT_EQ(ledger.current_bytes(Category::workspace), 500);
      EXPECT_EQ(ledger.current_bytes(), 1500);
    }
    Buffer activation(*device_, Category::activation, 200);
    EXPECT_EQ(ledger.current_bytes(), 1200);
  }
  EXPECT_EQ(ledger.current_bytes(), 0);
  EXPECT_EQ(ledger.peak_bytes(Category::base), 1000);
  EXPECT_EQ(ledger.peak_bytes(Category::activation), 200);
  EXPECT_EQ(ledger.peak_bytes(Category::gradient), 0);
  EXPECT_EQ(ledger.peak_bytes(), 1500);  // of the sum, not the sum of the peaks
}

// What the activations are is kept for the moment when they are most, and what is made again goes by that name.
TEST_P(Devices, CountsActivationsByWhatTheyAre) {
  const Ledger& ledger = device_->ledger();
  const auto peak = [&](ActivationKind kind) { return ledger.peak_bytes(kind); };
  {
    Buffer norm(*device_, ActivationKind::norm, 100);
    {
      Buffer mlp(*device_, ActivationKind::mlp, 400);
      EXPECT_EQ(peak(ActivationKind::mlp), 400);
    }
    const WorkScope again(device_->profile(), kAgain);
    Buffer made(*device_, ActivationKind::attention, 450);
    Buffer scratch(*device_, Category::workspace, 8);  // no activation: it is what it was
  }
  Buffer later(*device_, ActivationKind::attention, 549);  // less than there was
  EXPECT_EQ(peak(ActivationKind::norm), 100);
  EXPECT_EQ(peak(ActivationKind::mlp), 0);
  EXPECT_EQ(peak(ActivationKind::recomputed), 450);
  EXPECT_EQ(peak(ActivationKind::attention), 0);
  EXPECT_EQ(ledger.peak_bytes(Category::activation), 550);
  EXPECT_EQ(ledger.peak_bytes(Category::workspace), 8);
  Buffer one_more(*device_, Category::activation, 2);
  EXPECT_EQ(peak(ActivationKind::attention), 549);
  EXPECT_EQ(peak(ActivationKind::other), 2);
}

TEST_P(Devices, MomentsAreInOrder) {
  const auto first = device_->moment(), second = device_->moment();
  EXPECT_GE(second->seconds_since(*first), 0);
  EXPECT_LT(second->seconds_since(*first), 60);
}

TEST_P(Devices, BuffersMoveByExchange) {
  Buffer a(*device_, Category::base, 64);
  std::byte* data = a.data();
  Buffer b = std::move(a);
  EXPECT_EQ(a.bytes(), 0);
  EXPECT_EQ(b.data(), data);
  b = Buffer(*device_, Category::gradient, 128);
  EXPECT_EQ(device_->ledger().current_bytes(Category::base), 0);
  EXPECT_EQ(device_->ledger().current_bytes(), 128);
  b.release();
  b.release();
  EXPECT_EQ(device_->ledger().current_bytes(), 0);
}

TEST_P(Devices, TensorsKnowTheirExtents) {
  Tensor none;
  EXPECT_TRUE(none.none());
  Tensor t(*device_, Category::activation, DType::bf16, 3, 5);
  EXPECT_EQ(device_->ledger().current_bytes(), 30);
  EXPECT_EQ(t.view().stride, 5);
  EXPECT_EQ(t.view().data == nullptr, device_->meta());
  t.reset();
  EXPECT_TRUE(t.none());
  EXPECT_EQ(device_->ledger().current_bytes(), 0);
  Tensor empty(*device_, Category::activation, DType::f32, 0, 5);
  EXPECT_EQ(empty.view().data, nullptr);
}

TEST(HostDevice, AlignsEveryBuffer) {
  const auto device = make_host_device(1);
  std::vector<Buffer> buffers;
  for (Index bytes : {Index{1}, Index{63}, Index{4096}, kMiB - 3, kMiB, 3 * kMiB + 1}) {
    buffers.emplace_back(*device, Category::workspace, bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffers.back().data()) % 64, 0u) << bytes;
    std::memset(buffers.back().data(), 1, bytes);
  }
}

TEST(HostDevice, RefusesWithTheBytesAskedFor) {
  const auto device = make_host_device(1);
  try {
    Buffer buffer(*device, Category::base, Index{1} << 60);
    FAIL() << "an exbibyte was granted";
  } catch (const Error& error) {
    EXPECT_EQ(error.failure(), Failure::memory);
    EXPECT_NE(std::string(error.what()).find("1152921504606846976"), std::string::npos) << error.what();
  }
  EXPECT_EQ(device->ledger().peak_bytes(), 0);
  EXPECT_THROW(make_host_device(0), Error);
}

#ifndef __SANITIZE_ADDRESS__  // there the pool is off, so that every overrun is seen
TEST(HostMemory, AStepRepeatedFindsItsBlocksAgain) {
  HostMemory memory;
  std::byte* first = memory.acquire(kMiB);
  memory.give_back(first, kMiB);
  EXPECT_EQ(memory.waiting_bytes(), kMiB);
  EXPECT_EQ(memory.acquire(kMiB), first);
  EXPECT_EQ(memory.waiting_bytes(), 0);
  memory.give_back(first, kMiB);
}

TEST(HostMemory, WaitingBlocksNeverRaiseThePeak) {
  HostMemory memory;
  Index used = 0, peak = 0;
  std::vector<std::pair<std::byte*, Index>> held;
  for (int i = 0; i < 400; ++i) {
    const Index bytes = kMiB / 4 * (1 + i * 7 % 13);
    if (i % 3 != 2 || held.empty()) {
      held.emplace_back(memory.acquire(bytes), bytes);
      used += bytes;
      peak = std::max(peak, used);
    } else {
      std::swap(held[i * 5 % held.size()], held.back());
      used -= held.back().second;
      memory.give_back(held.back().first, held.back().second);
      held.pop_back();
    }
    if (held.size() > 20) {
      for (const auto& [data, size] : held) memory.give_back(data, size);
      held.clear();
      used = 0;
    }
    ASSERT_EQ(memory.used_bytes(), used);
    ASSERT_LE(memory.used_bytes() + memory.waiting_bytes(), peak + peak / 32);
  }
  for (const auto& [data, size] : held) memory.give_back(data, size);
}
#endif

}  // namespace
}  // namespace lorashard::kernels
