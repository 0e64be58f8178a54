// ranks: 6
// Plans against runs on the host, on every mesh and mode of the golden cases.
#include <gtest/gtest.h>

#include "tests/golden/ledger_run.hpp"

namespace lorashard::golden {
namespace {

class Ledger : public testing::TestWithParam<GoldenCase> {};

TEST_P(Ledger, PlanAndRunAgreeToTheByte) {
  expect_plan_is_run(GetParam(), kernels::DType::f32, kernels::DeviceKind::host);
}

TEST_P(Ledger, PlanAndRunAgreeToTheByteInBf16) {
  expect_plan_is_run(GetParam(), kernels::DType::bf16, kernels::DeviceKind::host);
}

INSTANTIATE_TEST_SUITE_P(Gpt2, Ledger, testing::ValuesIn(daily_cases()),
                         [](const auto& info) { return title(info.param); });

// Every mesh of at most 6 ranks that cuts 6 heads and 4 layers, each golden run on it.
std::vector<GoldenCase> every_mesh() {
  std::vector<GoldenCase> cases;
  for (const int tensor : {1, 2, 3, 6})
    for (int pipeline = 1; pipeline <= 4; ++pipeline)
      for (int data = 1; tensor * pipeline * data <= 6; ++data)
        for (const char* run : kGoldenRuns)
          cases.push_back({run, {tensor, pipeline, data}, tensor > 1, dist::ScheduleKind::one_f_one_b, 1,
                           core::Recompute::none});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(EveryMesh, Ledger, testing::ValuesIn(every_mesh()),
                         [](const auto& info) { return title(info.param); });

}  // namespace
}  // namespace lorashard::golden
