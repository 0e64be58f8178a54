#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "kernels/error.hpp"
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
      const PhaseScope inner(profile, Phase::tensor);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  profile.enter(Phase::other);  // brings the account up to now
  const double wall = std::chrono::duration<double>(Clock::now() - before).count();
  EXPECT_LE(total_seconds(profile), wall);
  EXPECT_GE(total_seconds(profile), 0.006);  // a sleep is never shorter than asked for
  EXPECT_GE(profile.entry(Phase::matmul).seconds, 0.004);
  EXPECT_GE(profile.entry(Phase::tensor).seconds, 0.002);
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
  profile.record_sent(Phase::tensor, 7);
  EXPECT_EQ(profile.entry(Phase::matmul).flops, 15);
  EXPECT_EQ(profile.entry(Phase::matmul).bytes, 5);
  EXPECT_EQ(profile.entry(Phase::matmul).calls, 2);
  EXPECT_EQ(profile.entry(Phase::tensor).sent_bytes, 7);
  EXPECT_EQ(profile.entry(Phase::tensor).calls, 0);
  const ProductShape f32{2, 3, 4, DType::f32}, bf16{2, 3, 4, DType::bf16};
  for (const ProductShape& shape : {f32, f32, bf16}) profile.record(Phase::matmul, {48, 1}, &shape);
  profile.record(Phase::adapter, {48, 1}, &f32);  // no product of the model
  EXPECT_EQ(profile.products().size(), 2u);
  EXPECT_EQ(profile.products().at({2, 3, 4, DType::f32}), 2);
  profile.reset();
  EXPECT_EQ(profile.entry(Phase::matmul).flops, 0);
  EXPECT_TRUE(profile.products().empty());
}

// Writes down what it is told.
class Notes final : public Observer {
 public:
  void operation(Phase phase, const Cost& cost, const ProductShape* product) override {
    lines.push_back(text(name(phase), " ", cost.flops, " ", product == nullptr ? 0 : product->k));
  }
  void enter(const char* work, int number, int part) override { lines.push_back(text("enter ", work, number, part)); }
  void leave() override { lines.push_back("leave"); }
  std::vector<std::string> lines;
};

TEST(Profile, TellsItsObserver) {
  Profile profile;
  Notes notes;
  const ProductShape shape{2, 3, 4, DType::f32};
  profile.record(Phase::loss, {1, 1});
  profile.tell(&notes);
  {
    const WorkScope work(profile, "forward", 3, 1);
    profile.record(Phase::matmul, {48, 1}, &shape);
    profile.record(Phase::loss, {2, 1});
  }
  profile.tell(nullptr);
  profile.record(Phase::loss, {3, 1});
  EXPECT_EQ(notes.lines, (std::vector<std::string>{"enter forward31", "matmul 48 4", "loss 2 0", "leave"}));
}

TEST(Profile, NamesAreDistinct) {
  std::set<std::string> names;
  for (int i = 0; i < kPhaseCount; ++i) names.insert(name(static_cast<Phase>(i)));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(kPhaseCount));
}

}  // namespace
}  // namespace lorashard::kernels
