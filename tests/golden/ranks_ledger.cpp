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

}  // namespace
}  // namespace lorashard::golden
