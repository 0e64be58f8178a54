// Copies between the cuda device and the host, and waiting for them.
#include <chrono>
#include <cstring>

#include "kernels/cuda.hpp"
#include "tests/gpu/on_device.hpp"

namespace lorashard::kernels {
namespace {

constexpr Index kMiB = Index{1} << 20;

class CudaTransfers : public testing::Test {
 protected:
  void SetUp() override { SKIP_WITHOUT_GPU(); }
};

// Bytes of both, element for element, rows of any stride.
void expect_equal(const ConstMatrix& found, const ConstMatrix& expected) {
  const auto row_bytes = static_cast<std::size_t>(expected.cols * size_bytes(expected.dtype));
  for (Index r = 0; r < expected.rows; ++r) {
    ASSERT_EQ(std::memcmp(found.row_range(r, 1).data, expected.row_range(r, 1).data, row_bytes), 0) << "row " << r;
  }
}

// Bytes that tell every place from every other nearby one.
class Pattern {
 public:
  Pattern(DType dtype, Index rows, Index cols, Index gap, unsigned seed = 0)
      : bytes_(rows * (cols + gap) * size_bytes(dtype)), view_(bytes_.data(), dtype, rows, cols, cols + gap) {
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
      bytes_[i] = static_cast<std::byte>(((i + seed) * 2654435761u) >> 13);
    }
  }
  Matrix view() { return view_; }
  const std::vector<std::byte>& image() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
  Matrix view_;
};

TEST_F(CudaTransfers, MovesAnyShapeThereAndBack) {
  struct Shape {
    DType dtype;
    Index rows, cols;
  };
  const Shape shapes[] = {
      {DType::f32, 1, 1},
      {DType::bf16, 7, 5},
      {DType::f64, 3, 4},
      {DType::f32, 300, 70},
      {DType::f32, 1, 9 * kMiB / 4},  // one row longer than two pieces of the ring
      {DType::f32, 3, 5 * kMiB / 4},  // rows longer than a piece
      {DType::bf16, 5000, 999},       // 9.5 MiB
  };
  for (const Shape& s : shapes) {
    for (Index host_gap : {0, 3}) {
      for (Index device_gap : {0, 1}) {
        SCOPED_TRACE(text(s.rows, "x", s.cols, " of ", name(s.dtype), ", gaps ", host_gap, " and ", device_gap));
        Pattern sent(s.dtype, s.rows, s.cols, host_gap), back(s.dtype, s.rows, s.cols, host_gap, 1);
        Tensor there(cuda(), Category::activation, s.dtype, s.rows, s.cols + device_gap);
        const Matrix view = there.view().col_range(0, s.cols);
        upload(cuda(), ConstMatrix(sent.view()), view);
        download(cuda(), view, back.view());
        expect_equal(back.view(), sent.view());
      }
    }
  }
}

TEST_F(CudaTransfers, WritesNothingBesideAView) {
  Pattern around(DType::f32, 40, 30, 0), inside(DType::f32, 20, 11, 2, 5), back(DType::f32, 40, 30, 0, 9);
  Tensor there(cuda(), Category::activation, DType::f32, 40, 30);
  upload(cuda(), ConstMatrix(around.view()), there);
  upload(cuda(), ConstMatrix(inside.view()), there.view().row_range(10, 20).col_range(7, 11));
  download(cuda(), there.view(), back.view());
  expect_equal(back.view().row_range(10, 20).col_range(7, 11), inside.view());
  expect_equal(back.view().row_range(10, 20).col_range(0, 7), around.view().row_range(10, 20).col_range(0, 7));
  expect_equal(back.view().row_range(10, 20).col_range(18, 12), around.view().row_range(10, 20).col_range(18, 12));
  expect_equal(back.view().row_range(0, 10), around.view().row_range(0, 10));
  expect_equal(back.view().row_range(30, 10), around.view().row_range(30, 10));

  Pattern frame(DType::f32, 20, 11, 2, 6), untouched(DType::f32, 20, 11, 2, 6);
  download(cuda(), there.view().row_range(10, 20).col_range(7, 11), frame.view());
  expect_equal(frame.view(), inside.view());
  for (std::size_t i = 0; i < frame.image().size(); ++i) {
    if (i / 4 % 13 < 11) continue;
    ASSERT_EQ(frame.image()[i], untouched.image()[i]) << "gap at byte " << i;
  }
}

// More uploads than the ring has pieces or room for, small ones and large ones in turn, the source overwritten each
// time.
TEST_F(CudaTransfers, SourcesMayBeUsedAgainAtOnce) {
  std::vector<float> source(1100003);
  std::vector<Tensor> sent;
  for (int i = 0; i < 200; ++i) {
    const Index count = i % 40 == 7 ? 1100003 : i % 7 == 3 ? 300000 : 1 + i;
    std::fill_n(source.begin(), count, static_cast<float>(i));
    sent.emplace_back(cuda(), Category::activation, DType::f32, 1, count);
    upload(cuda(), ConstMatrix(view(source.data(), 1, count)), sent.back());
  }
  std::fill(source.begin(), source.end(), -1.0f);
  for (int i = 0; i < 200; ++i) {
    std::vector<float> found(sent[i].cols());
    download(cuda(), sent[i].view(), view(found.data(), 1, sent[i].cols()));
    EXPECT_EQ(std::count(found.begin(), found.end(), static_cast<float>(i)), sent[i].cols()) << i;
  }
}

TEST_F(CudaTransfers, DuplicatesWithinTheDevice) {
  Pattern sent(DType::bf16, 50, 33, 0), back(DType::bf16, 50, 33, 0, 1);
  Tensor from(cuda(), Category::activation, DType::bf16, 50, 33), to(cuda(), Category::activation, DType::bf16, 50, 40);
  Tensor flat(cuda(), Category::activation, DType::bf16, 50, 33);
  upload(cuda(), ConstMatrix(sent.view()), from);
  duplicate(cuda(), from.view(), to.view().col_range(2, 33));
  duplicate(cuda(), to.view().col_range(2, 33), flat);
  download(cuda(), flat.view(), back.view());
  expect_equal(back.view(), sent.view());
}

TEST_F(CudaTransfers, HoldsIntegers) {
  std::vector<std::int32_t> values(10007);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::int32_t>(i * 2654435761u);
  const std::vector<std::int32_t> expected = values;
  const Integers integers(cuda(), Category::activation, values);
  std::fill(values.begin(), values.end(), 0);
  const auto count = static_cast<Index>(values.size());
  const ConstMatrix there(reinterpret_cast<const std::byte*>(integers.view().data()), DType::f32, 1, count, count);
  download(cuda(), there, {reinterpret_cast<std::byte*>(values.data()), DType::f32, 1, count, count});
  EXPECT_EQ(values, expected);
}

float first_float(std::span<const std::byte> bytes) {
  float value;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

// As the trainer uses it: the loss of a step is read when the next step has been queued.
TEST_F(CudaTransfers, ReadsBackAStepLate) {
  Tensor loss(cuda(), Category::activation, DType::f32, 1, 2);
  const auto readback = cuda().make_readback(8);
  EXPECT_EQ(first_float(readback->wait()), 0.0f);
  const auto set = [&](int step) {
    const float values[] = {static_cast<float>(step), 0.5f};
    upload(cuda(), ConstMatrix(view(values, 1, 2)), loss);
  };
  set(0);
  readback->start(loss);
  for (int step = 1; step < 100; ++step) {
    set(step);
    EXPECT_EQ(first_float(readback->wait()), step - 1);
    EXPECT_EQ(first_float(readback->wait()), step - 1);
    readback->start(loss);
  }
  EXPECT_THROW(cuda().make_readback(12)->start(loss), Error);
  const auto abandoned = cuda().make_readback(8);
  abandoned->start(loss);
}

// A communicator looks for errors while the host waits; what it throws ends the wait. The work is made long enough for
// a few polls (every 2 ms) on any card.
TEST_F(CudaTransfers, PollsWhileItWaits) {
  CudaDevice& device = as_cuda(cuda());
  Tensor from(device, Category::activation, DType::f32, 1024, 1024),
      to(device, Category::activation, DType::f32, 1024, 1024);
  Pattern noise(DType::f32, 1024, 1024, 0);
  upload(device, ConstMatrix(noise.view()), from);
  int copies = 4;
  const auto queue = [&] {
    for (int i = 0; i < copies; ++i) duplicate(device, from.view(), to);
  };
  std::chrono::duration<double> taken{};
  while (taken.count() < 0.03) {
    copies *= 2;
    device.synchronize();
    queue();
    const auto begin = std::chrono::steady_clock::now();
    device.synchronize();
    taken = std::chrono::steady_clock::now() - begin;
  }
  int calls = 0, others = 0;
  const auto poll = [&] {
    if (++calls == 2) fail(Failure::communication, "the peer is gone");
  };
  device.add_poller(&others, [&] { ++others; });
  device.add_poller(&calls, poll);
  queue();
  const auto [failure, message] = refusal_of([&] { device.synchronize(); });
  device.remove_poller(&calls);
  device.remove_poller(&others);
  EXPECT_EQ(failure, Failure::communication);
  EXPECT_EQ(message, "the peer is gone");
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(others, 2);
  queue();
  device.synchronize();
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);  // "not ready" is no error
}

}  // namespace
}  // namespace lorashard::kernels
