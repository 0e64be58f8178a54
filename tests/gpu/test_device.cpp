// The cuda device: what it counts, and what it refuses.
#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "kernels/cuda.hpp"
#include "kernels/cuda_operations.hpp"
#include "tests/gpu/on_device.hpp"

namespace lorashard::kernels {
namespace {

constexpr Index kMiB = Index{1} << 20;

class CudaDevices : public testing::Test {
 protected:
  void SetUp() override { SKIP_WITHOUT_GPU(); }
};

void expect_contains(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' is not in: " << message;
}

TEST_F(CudaDevices, CountsToTheByte) {
  const auto device = make_cuda_device(0);
  const Ledger& ledger = device->ledger();
  EXPECT_EQ(ledger.current_bytes(), kCudaProductWorkspaceBytes);
  EXPECT_EQ(ledger.current_bytes(Category::workspace), kCudaProductWorkspaceBytes);
  {
    Buffer base(*device, Category::base, 1000);
    Buffer moved = std::move(base);
    Tensor activation(*device, Category::activation, DType::bf16, 3, 5);
    EXPECT_EQ(ledger.current_bytes(Category::base), 1000);
    EXPECT_EQ(ledger.current_bytes(Category::activation), 30);
    moved.release();
    EXPECT_EQ(ledger.current_bytes(Category::base), 0);
  }
  const std::vector<std::int32_t> values{1, 2, 3};
  const Integers integers(*device, Category::communication, values);
  EXPECT_EQ(ledger.current_bytes(), kCudaProductWorkspaceBytes + 12);
  EXPECT_EQ(ledger.peak_bytes(), kCudaProductWorkspaceBytes + 1030);
}

TEST_F(CudaDevices, AlignsEveryBuffer) {
  std::vector<Buffer> buffers;
  for (Index bytes : {Index{1}, Index{63}, Index{4096}, kMiB - 3, 3 * kMiB + 1}) {
    buffers.emplace_back(cuda(), Category::workspace, bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffers.back().data()) % 256, 0u) << bytes;
  }
  EXPECT_EQ(Buffer(cuda(), Category::workspace, 0).data(), nullptr);
}

TEST_F(CudaDevices, RefusesMemoryByName) {
  const auto device = make_cuda_device(0);
  Buffer held(*device, Category::base, 1000);
  const auto [failure, message] = refusal_of([&] { Buffer(*device, Category::base, Index{1} << 50); });
  EXPECT_EQ(failure, Failure::memory);
  expect_contains(message, "GPU 0");
  expect_contains(message, "1125899906842624 bytes asked for");
  expect_contains(message, text(kCudaProductWorkspaceBytes + 1000, " bytes held"));
  expect_contains(message, "bytes are free");
  EXPECT_EQ(device->ledger().current_bytes(), kCudaProductWorkspaceBytes + 1000);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);  // or the next launch would report the refusal again
  // The device goes on.
  Pair after(DType::f32, 3, 4);
  after.normals(1);
  EXPECT_EQ(element(after.from_cuda(), 2, 3), after.host()(2, 3));
}

// Blocks given back serve other sizes too, before memory counts as used up.
TEST_F(CudaDevices, FindsMemoryInWhatWasGivenBack) {
  std::size_t free_bytes = 0, total_bytes = 0;
  cuda().synchronize();
  ASSERT_EQ(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
  const auto device = make_cuda_device(0);
  const auto part = static_cast<Index>(free_bytes / 8);
  std::vector<Buffer> parts;
  for (int i = 0; i < 6; ++i) parts.emplace_back(*device, Category::base, part);
  parts.clear();
  Buffer whole(*device, Category::base, 6 * part);
  EXPECT_NE(whole.data(), nullptr);
}

TEST_F(CudaDevices, RefusesWhatIsNotThere) {
  const int count = cuda_device_count();
  for (int ordinal : {count, -1}) {
    const auto [failure, message] = refusal_of([&] { make_cuda_device(ordinal); });
    EXPECT_EQ(failure, Failure::configuration);
    expect_contains(message, text("GPU ", ordinal, " asked for, this process sees ", count));
    expect_contains(message, cuda_build());
  }
}

// The emulator is told its card by the environment, so this runs in a process of its own.
TEST_F(CudaDevices, RefusesOldCardsByName) {
  if (cuda_build().find("emulated") == std::string::npos)
    GTEST_SKIP() << "needs the emulator, which can be an old card";
  if (std::getenv("LORASHARD_EMULATOR_CAPABILITY") == nullptr) {
    const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
    const std::string filter = "--gtest_brief=1 --gtest_filter=CudaDevices.RefusesOldCardsByName";
    EXPECT_EQ(std::system(text("LORASHARD_EMULATOR_CAPABILITY=7.5 '", self, "' ", filter).c_str()), 0);
    return;
  }
  const auto [failure, message] = refusal_of([] { make_cuda_device(0); });
  EXPECT_EQ(failure, Failure::configuration);
  expect_contains(message, "compute capability 7.5, expected 8.0 or newer");
  expect_contains(message, cuda_build());
}

TEST_F(CudaDevices, ErrorsNameTheCall) {
  const auto [failure, message] = refusal_of([] { checked(cudaErrorInvalidValue, "cudaEventRecord"); });
  EXPECT_EQ(failure, Failure::other);
  expect_contains(message, "cudaEventRecord: ");
  expect_contains(message, "cudaErrorInvalidValue");
  EXPECT_EQ(refusal_of([] { checked(cudaErrorMemoryAllocation, "cudaMalloc"); }).first, Failure::memory);
  EXPECT_NO_THROW(checked(cudaSuccess, "cudaMalloc"));
}

}  // namespace
}  // namespace lorashard::kernels
