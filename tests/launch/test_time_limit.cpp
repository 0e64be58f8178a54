#include "launch/time_limit.hpp"

#include <gtest/gtest.h>

#include <string>

namespace lorashard::launch {
namespace {

const char* nothing(const char*) { return nullptr; }

TEST(TimeLimit, Units) {
  EXPECT_EQ(to_seconds("90"), 90);
  EXPECT_EQ(to_seconds("90s"), 90);
  EXPECT_EQ(to_seconds("1.5m"), 90);
  EXPECT_EQ(to_seconds(" 2h "), 7200);
  EXPECT_EQ(to_seconds("1d"), 86400);
  for (const char* wrong : {"", "s", "0", "-5s", "5w", "5 minutes", "nan", "1:30"}) EXPECT_EQ(to_seconds(wrong), std::nullopt) << wrong;
}

TEST(TimeLimit, NoneAskedForIsNone) {
  const TimeLimit limit(std::nullopt, nothing);
  EXPECT_EQ(limit.left_s(), std::nullopt);
  EXPECT_FALSE(limit.ends_before(1e9, 1e9));
}

TEST(TimeLimit, LeavesTimeForAStepAndASave) {
  const TimeLimit limit(100, nothing);
  EXPECT_NEAR(*limit.left_s(), 100, 1);
  EXPECT_FALSE(limit.ends_before(20, 20));  // 40 + 40 + 10
  EXPECT_TRUE(limit.ends_before(20, 30));
  EXPECT_TRUE(limit.ends_before(30, 20));
}

TEST(TimeLimit, SlurmsEnd) {
  using namespace std::chrono;
  const std::string end = std::to_string(duration_cast<seconds>(system_clock::now().time_since_epoch()).count() + 60);
  const auto variable = [&](const char* name) { return std::string(name) == "SLURM_JOB_END_TIME" ? end.c_str() : nullptr; };
  EXPECT_NEAR(*TimeLimit(std::nullopt, variable).left_s(), 60, 2);
  EXPECT_NEAR(*TimeLimit(5, variable).left_s(), 5, 1) << "what is asked for wins";
  EXPECT_EQ(TimeLimit(std::nullopt, [](const char*) { return "soon"; }).left_s(), std::nullopt);
}

}  // namespace
}  // namespace lorashard::launch
