#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <string>
#include <thread>

#include "kernels/profile.hpp"

namespace lorashard::kernels {
namespace {

double total_seconds(const Profile& profile) {
  double sum = 0;
  for (int i = 0; i < kPhaseCount; ++i) sum += profile.entry(static_cast<Phase>(i)).seconds;
  return sum;
}

TEST(Profile, PhasesAddUpToTheWallTime) {
  using Clock = std::chrono::steady_clock;
  const auto before = Clock::now();
  Profile profile;
  {
    const PhaseScope outer(profile, Phase::matmul);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    {
      const PhaseScope inner(profile, Phase::collectives);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  profile.enter(Phase::other);  // brings the account up to now
  const double wall = std::chrono::duration<double>(Clock::now() - before).count();
  EXPECT_LE(total_seconds(profile), wall);
  EXPECT_GE(total_seconds(profile), 0.006);  // a sleep is never shorter than asked for
  EXPECT_GE(profile.entry(Phase::matmul).seconds, 0.004);
  EXPECT_GE(profile.entry(Phase::collectives).seconds, 0.002);
}

TEST(Profile, EntersAndLeavesNested) {
  Profile profile;
  EXPECT_EQ(profile.enter(Phase::loss), Phase::other);
  {
    const PhaseScope scope(profile, Phase::matmul);
    const PhaseScope again(profile, Phase::adapter);
  }
  EXPECT_EQ(profile.enter(Phase::other), Phase::loss);
}

TEST(Profile, AddsCosts) {
  Profile profile;
  profile.record(Phase::matmul, {10, 4});
  profile.record(Phase::matmul, {5, 1});
  profile.record_sent(Phase::collectives, 7);
  EXPECT_EQ(profile.entry(Phase::matmul).flops, 15);
  EXPECT_EQ(profile.entry(Phase::matmul).bytes, 5);
  EXPECT_EQ(profile.entry(Phase::matmul).calls, 2);
  EXPECT_EQ(profile.entry(Phase::collectives).sent_bytes, 7);
  EXPECT_EQ(profile.entry(Phase::collectives).calls, 0);
  profile.record(ProductShape{2, 3, 4, DType::f32});
  profile.record(ProductShape{2, 3, 4, DType::f32});
  profile.record(ProductShape{2, 3, 4, DType::bf16});
  EXPECT_EQ(profile.products().size(), 2u);
  EXPECT_EQ(profile.products().at({2, 3, 4, DType::f32}), 2);
  profile.reset();
  EXPECT_EQ(profile.entry(Phase::matmul).flops, 0);
  EXPECT_TRUE(profile.products().empty());
}

TEST(Profile, NamesAreDistinct) {
  std::set<std::string> names;
  for (int i = 0; i < kPhaseCount; ++i) names.insert(name(static_cast<Phase>(i)));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(kPhaseCount));
}

}  // namespace
}  // namespace lorashard::kernels
