// ranks: 2
// Plans for a GPU against runs on one, to the byte.
#include <gtest/gtest.h>

#include "tests/golden/ledger_run.hpp"

namespace lorashard::golden {
namespace {

// Each mode once, on small meshes; what a mesh of more ranks does differently is the same on every device.
std::vector<GoldenCase> cuda_cases() {
  using dist::ScheduleKind;
  using core::Recompute;
  return {{"lora_all", {1, 1, 1}, false, ScheduleKind::one_f_one_b, 0, Recompute::none},
          {"full", {1, 1, 1}, false, ScheduleKind::one_f_one_b, 2, Recompute::full},
          {"lora_qv", {2, 1, 1}, true, ScheduleKind::one_f_one_b, 0, Recompute::selective},
          {"lora_some", {1, 2, 1}, false, ScheduleKind::interleaved, 2, Recompute::none},
          {"full", {1, 1, 2}, false, ScheduleKind::one_f_one_b, 0, Recompute::none}};
}

class LedgerOnCuda : public testing::TestWithParam<GoldenCase> {};

TEST_P(LedgerOnCuda, PlanAndRunAgreeToTheByte) {
  if (kernels::cuda_device_count() == 0) GTEST_SKIP() << "no GPU here; " << kernels::cuda_build();
  for (const kernels::DType precision : {kernels::DType::f32, kernels::DType::bf16})
    expect_plan_is_run(GetParam(), precision, kernels::DeviceKind::cuda);
}

INSTANTIATE_TEST_SUITE_P(Gpt2, LedgerOnCuda, testing::ValuesIn(cuda_cases()),
                         [](const auto& info) { return title(info.param); });

}  // namespace
}  // namespace lorashard::golden
