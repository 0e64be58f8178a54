// Phases are measured on the device's own clock, and what the library reaches alone.
#include "kernels/ceiling.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/gemm.hpp"
#include "tests/gpu/on_device.hpp"

namespace lorashard::kernels {
namespace {

double seconds(Phase phase) { return cuda().profile().entry(phase).seconds; }

TEST(PhaseClock, TimeBelongsToWhatIsQueued) {
  SKIP_WITHOUT_GPU();
  const auto square = [] { return Tensor(cuda(), Category::workspace, DType::f32, 64, 64); };
  Tensor x = square(), y = square(), z = square();
  cuda().synchronize();
  cuda().profile().reset();
  fill(cuda(), x, 1);
  gemm(cuda(), {.a = x, .b = x, .c = y});
  gemm(cuda(), {.a = x, .b = y, .c = z, .phase = Phase::adapter});
  cuda().synchronize();
  for (const Phase phase : {Phase::elementwise, Phase::matmul, Phase::adapter}) EXPECT_GT(seconds(phase), 0) << name(phase);
  EXPECT_EQ(seconds(Phase::attention), 0);
  cuda().profile().reset();
  cuda().synchronize();
  EXPECT_EQ(seconds(Phase::matmul), 0);
}

// The clock lags behind the queue: nothing is added before it has come to pass, and nothing is lost.
TEST(PhaseClock, AReadbackBringsItUpToDate) {
  SKIP_WITHOUT_GPU();
  Tensor x(cuda(), Category::workspace, DType::f32, 4, 8);
  const auto readback = cuda().make_readback(x.view().bytes());
  cuda().synchronize();
  cuda().profile().reset();
  for (int i = 0; i < 5; ++i) fill(cuda(), x, static_cast<float>(i));
  readback->start(x);
  readback->wait();
  EXPECT_GT(seconds(Phase::elementwise), 0);
}

TEST(Ceiling, MeasuresTheGpuAndLeavesNothing) {
  SKIP_WITHOUT_GPU();
  const Index before = cuda().ledger().current_bytes();
  for (const DType dtype : {DType::f32, DType::bf16}) EXPECT_GT(library_gflops(cuda(), 64, 96, 128, dtype), 0);
  EXPECT_EQ(cuda().ledger().current_bytes(), before);
  EXPECT_STREQ(library_name(cuda()), "cuBLASLt");
}

}  // namespace
}  // namespace lorashard::kernels
