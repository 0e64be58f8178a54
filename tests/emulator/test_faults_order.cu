// Faults between streams and between device and host: missing events, memory freed too early, host access to device
// memory. Beside each the mended order.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <vector>

#include "kernels/launch.hpp"
#include "tests/emulator/planted.hpp"

namespace lorashard::emulator {
namespace {

using kernels::launch;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;

__global__ void fill(float* x, float value) { x[threadIdx.x] = value; }
__global__ void copy(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x]; }

struct TwoStreams : Planted {
  TwoStreams() {
    cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  }
  ~TwoStreams() {
    cudaEventDestroy(event);
    cudaStreamDestroy(other);
  }
  // `later` goes on only when `earlier` has got here.
  void order(cudaStream_t earlier, cudaStream_t later) {
    cudaEventRecord(event, earlier);
    cudaStreamWaitEvent(later, event, 0);
  }
  cudaStream_t other = nullptr;
  cudaEvent_t event = nullptr;
};

TEST(MissingEvent, BeforeARead) {
  TwoStreams on;
  float* x = on.make<float>(32);
  float* y = on.make<float>(32);
  on.order(on.stream, on.other);  // of the allocations
  launch<fill>(on.stream, {1, 32}, x, 1.0f);
  launch<copy>(on.other, {1, 32}, x, y);
  // Whichever of the two came second names the other one; a read that came first found nothing written.
  EXPECT_THAT(on.faults(), AnyOf(AllOf(HasSubstr("copy: missing order"), HasSubstr("'fill' (operation")),
                                 HasSubstr("copy: never written")));
  launch<fill>(on.stream, {1, 32}, x, 2.0f);
  on.order(on.stream, on.other);
  launch<copy>(on.other, {1, 32}, x, y);
  EXPECT_EQ(on.faults(), "");
}

TEST(MissingEvent, BeforeOverwritingWhatIsRead) {
  TwoStreams on;
  float* x = on.give(std::vector<float>(32, 1.0f));
  float* y = on.make<float>(32);
  on.order(on.stream, on.other);
  launch<copy>(on.other, {1, 32}, x, y);
  launch<fill>(on.stream, {1, 32}, x, 2.0f);
  EXPECT_THAT(on.faults(), AnyOf(AllOf(HasSubstr("fill: missing order: write"), HasSubstr("'copy' (operation")),
                                 AllOf(HasSubstr("copy: missing order: read"), HasSubstr("'fill' (operation"))));
  on.order(on.other, on.stream);
  launch<fill>(on.stream, {1, 32}, x, 3.0f);
  EXPECT_EQ(on.faults(), "");
}

// Both streams read; the one that read last then writes, behind its own reading but not behind the other's.
TEST(MissingEvent, BehindTwoReaders) {
  for (const bool mended : {false, true}) {
    TwoStreams on;
    float* x = on.give(std::vector<float>(32, 1.0f));
    float* y = on.make<float>(32);
    float* z = on.make<float>(32);
    on.order(on.stream, on.other);
    launch<copy>(on.other, {1, 32}, x, y);
    cudaStreamSynchronize(on.other);  // it has run; but the clock is compared without what the host knows:
    launch<copy>(on.other, {1, 32}, x, y);
    launch<copy>(on.stream, {1, 32}, x, z);
    if (mended) on.order(on.other, on.stream);
    launch<fill>(on.stream, {1, 32}, x, 2.0f);
    if (mended) {
      EXPECT_EQ(on.faults(), "");
    } else {
      EXPECT_THAT(on.faults(), HasSubstr("missing order"));
    }
  }
}

TEST(MissingEvent, TheHostMayWaitInstead) {
  TwoStreams on;
  float* x = on.give(std::vector<float>(32, 1.0f));
  float* y = on.make<float>(32);
  cudaStreamSynchronize(on.stream);
  launch<copy>(on.other, {1, 32}, x, y);
  cudaEventRecord(on.event, on.other);
  while (cudaEventQuery(on.event) == cudaErrorNotReady) {
  }
  launch<fill>(on.stream, {1, 32}, x, 2.0f);
  cudaDeviceSynchronize();
  launch<fill>(on.other, {1, 32}, x, 3.0f);
  EXPECT_EQ(on.faults(), "");
}

TEST(MissingEvent, BeforeACopyAndADeclaredOperation) {
  TwoStreams on;
  float* x = on.give(std::vector<float>(32, 1.0f));
  on.order(on.stream, on.other);
  enqueue(on.other, "product", {{x, 8, 4, 32, true}}, [] {});
  on.fetch(x, 32);
  EXPECT_THAT(on.faults(), AnyOf(AllOf(HasSubstr("cudaMemcpyAsync: missing order"), HasSubstr("'product'")),
                                 AllOf(HasSubstr("product: missing order"), HasSubstr("'cudaMemcpyAsync'"))));
  cudaMemsetAsync(x + 2, 0, 8, on.stream);  // between the rows of what comes next
  enqueue(on.other, "product", {{x, 8, 4, 32, true}}, [] {});
  EXPECT_EQ(on.faults(), "");
}

TEST(FreedTooEarly, WhileAnotherStreamUsesIt) {
  for (const bool mended : {false, true}) {
    TwoStreams on;
    void* x = nullptr;
    cudaMallocAsync(&x, 128, on.stream);
    on.order(on.stream, on.other);
    launch<fill>(on.other, {1, 32}, static_cast<float*>(x), 1.0f);
    if (mended) on.order(on.other, on.stream);
    cudaFreeAsync(x, on.stream);
    if (mended) {
      EXPECT_EQ(on.faults(), "");
    } else {
      EXPECT_THAT(on.faults(), AnyOf(AllOf(HasSubstr("cudaFreeAsync: freed too early"), HasSubstr("'fill' (operation")),
                                     HasSubstr("fill: freed memory")));
    }
  }
}

TEST(FreedTooEarly, UsedBeforeItIsThere) {
  TwoStreams on;
  cudaDeviceSynchronize();
  float* x = on.make<float>(32);
  launch<fill>(on.other, {1, 32}, x, 1.0f);
  EXPECT_THAT(on.faults(), AnyOf(HasSubstr("fill: missing order: uses memory that is allocated on stream"),
                                 HasSubstr("fill: out of bounds"), HasSubstr("fill: freed memory")));
  launch<fill>(on.other, {1, 32}, x, 1.0f);
  EXPECT_EQ(on.faults(), "");
}

// Freed memory goes at once to those behind its release, and to no other.
TEST(FreedTooEarly, AnotherStreamDoesNotGetIt) {
  TwoStreams on;
  void* x = nullptr;
  void* y = nullptr;
  void* z = nullptr;
  cudaMallocAsync(&x, 1 << 16, on.stream);
  cudaFreeAsync(x, on.stream);
  cudaMallocAsync(&y, 1 << 16, on.other);
  EXPECT_NE(x, y);
  on.order(on.stream, on.other);
  cudaMallocAsync(&z, 1 << 16, on.other);
  EXPECT_EQ(x, z);
  cudaFreeAsync(y, on.other);
  cudaFreeAsync(z, on.other);
  EXPECT_EQ(on.faults(), "");
}

// Pinned memory is read when the stream gets there, other memory at the call.
TEST(Pinned, IsReadLate) {
  Planted on;
  void* pinned = nullptr;
  cudaMallocHost(&pinned, sizeof(int));
  int* early = static_cast<int*>(pinned);
  int plain = 1;
  *early = 1;
  int* x = on.make<int>(2);
  std::promise<void> go;
  enqueue(on.stream, "wait", {}, [held = go.get_future().share()] { held.wait(); });
  cudaMemcpyAsync(x, early, sizeof(int), cudaMemcpyHostToDevice, on.stream);
  cudaMemcpyAsync(x + 1, &plain, sizeof(int), cudaMemcpyHostToDevice, on.stream);
  *early = plain = 2;
  go.set_value();
  EXPECT_EQ(on.fetch(x, 2), (std::vector<int>{2, 1}));
  cudaFreeHost(pinned);
  EXPECT_EQ(on.faults(), "");
}

TEST(HostDeathTest, TouchesDeviceMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto touch = [] {
    Planted on;
    const float* x = on.give(std::vector<float>(4, 1.0f));
    cudaDeviceSynchronize();
    std::_Exit(x[3] == 1.0f ? 0 : 1);
  };
  EXPECT_EXIT(touch(), testing::ExitedWithCode(99), "host");
  const auto give_to_library = [] {  // code that is not instrumented
    Planted on;
    float* x = on.give(std::vector<float>(4, 1.0f));
    cudaDeviceSynchronize();
    std::fwrite(x + 1, 4, 1, stderr);
    volatile std::size_t count = 8;
    std::memcpy(std::vector<char>(8).data(), x + 1, count);
    std::_Exit(0);
  };
  EXPECT_EXIT(give_to_library(), testing::ExitedWithCode(99),
              "host access to device memory at .* .4 bytes into an allocation of 16");
}

TEST(FaultDeathTest, EndsTheProcessWhereNotCollected) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto planted = [] {  // not a Planted: that one collects
    cudaStream_t stream;
    void* x = nullptr;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaMallocAsync(&x, 124, stream);
    launch<fill>(stream, {1, 32}, static_cast<float*>(x), 1.0f);
    cudaStreamSynchronize(stream);
    std::_Exit(0);
  };
  EXPECT_EXIT(planted(), testing::ExitedWithCode(99),
              "emulator: .*fill: out of bounds: write of 4 bytes at .* 124 bytes into an allocation of 124");
}

}  // namespace
}  // namespace lorashard::emulator
