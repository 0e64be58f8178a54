// ranks: 2
// Plans for a GPU against runs on one, to the byte.
#include <gtest/gtest.h>

#include "tests/golden/ledger_run.hpp"

namespace lorashard::golden {
namespace {

struct Case {
  GoldenCase run;
  kernels::DType precision;
};

// Each mode once, on small meshes, in precisions that take turns; what a mesh of more ranks does differently is the same on
// every device.
std::vector<Case> cuda_cases() {
  using dist::ScheduleKind;
  using core::Recompute;
  using enum kernels::DType;
  const GoldenCase alone{"lora_all", {1, 1, 1}, false, ScheduleKind::one_f_one_b, 0, Recompute::none};
  return {{alone, f32},
          {alone, bf16},
          {{"full", {1, 1, 1}, false, ScheduleKind::one_f_one_b, 2, Recompute::full}, f32},
          {{"lora_qv", {2, 1, 1}, true, ScheduleKind::one_f_one_b, 0, Recompute::selective}, f32},
          {{"lora_some", {1, 2, 1}, false, ScheduleKind::interleaved, 2, Recompute::none}, bf16},
          {{"full", {1, 1, 2}, false, ScheduleKind::one_f_one_b, 0, Recompute::none}, bf16}};
}

class LedgerOnCuda : public testing::TestWithParam<Case> {};

TEST_P(LedgerOnCuda, PlanAndRunAgreeToTheByte) {
  if (kernels::cuda_device_count() == 0) GTEST_SKIP() << "no GPU here; " << kernels::cuda_build();
  expect_plan_is_run(GetParam().run, GetParam().precision, kernels::DeviceKind::cuda);
}

INSTANTIATE_TEST_SUITE_P(Gpt2, LedgerOnCuda, testing::ValuesIn(cuda_cases()), [](const auto& info) {
  return title(info.param.run) + "_" + kernels::name(info.param.precision);
});

}  // namespace
}  // namespace lorashard::golden
