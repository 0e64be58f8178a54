// ranks: 6
// The reference runs of ../shared/golden through the real trainer on every mesh and in every mode. By default the
// daily part; LORASHARD_GOLDEN_ALL=1 (ctest -C Slow -L slow) takes all of them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "tests/golden/golden_run.hpp"

namespace lorashard::golden {
namespace {

std::vector<GoldenCase> chosen_cases() { return std::getenv("LORASHARD_GOLDEN_ALL") ? all_cases() : daily_cases(); }

class Golden : public testing::TestWithParam<GoldenCase> {};

TEST_P(Golden, IsRepeated) {
  const auto root = oracle::golden_folder();
  if (!root) GTEST_SKIP() << oracle::kNoGolden;
  repeat_golden(GetParam(), *root, kernels::DeviceKind::host);
}

INSTANTIATE_TEST_SUITE_P(Gpt2, Golden, testing::ValuesIn(chosen_cases()),
                         [](const auto& info) { return title(info.param); });

INSTANTIATE_TEST_SUITE_P(Llama, Golden, testing::ValuesIn(llama_cases()), [](const auto& info) { return title(info.param); });

TEST(GoldenCases, TheDailyPartHasEveryMeshWithEveryMode) {
  EXPECT_EQ(all_cases().size(), 1008u);
  for (const dist::MeshExtents& mesh : golden_meshes()) {
    std::set<std::string> runs;
    std::set<bool> sequence;
    std::set<dist::ScheduleKind> schedules;
    std::set<core::Index> microbatches;
    std::set<core::Recompute> recomputes;
    for (const GoldenCase& c : daily_cases()) {
      if (dist::to_string(c.mesh) != dist::to_string(mesh)) continue;
      runs.insert(c.run), sequence.insert(c.sequence_parallel), schedules.insert(c.schedule);
      microbatches.insert(c.microbatch), recomputes.insert(c.recompute);
    }
    EXPECT_EQ(runs.size(), 4u);
    EXPECT_EQ(sequence.size(), 2u);
    EXPECT_EQ(schedules.size(), mesh.pipeline > 1 ? 3u : 1u);
    EXPECT_EQ(microbatches.size(), 3u);
    EXPECT_EQ(recomputes.size(), 3u);
  }
}

}  // namespace
}  // namespace lorashard::golden
