// A run that is killed, or asked to stop, and started again ends in the very bytes of a run that was left alone.
// LORASHARD_KILLS sets how often it is killed (2 unless set; ten in the test labelled slow).
#include <random>

#include "tests/launch/whole_runs.hpp"

namespace lorashard::launch {
namespace {

using testing::HasSubstr;

class Interrupted : public WholeRuns {
 protected:
  static constexpr int kSteps = 60;

  void SetUp() override {
    write_file(at("text.txt"), some_text(30000));
    write_file(at("job.ini"), std::string(kTinyJob) + "checkpoint_every = 7\n");
    ASSERT_EQ(call("tokenize --from text.txt --to train.h5").code, 0) << content_of(at(".err"));
  }

  static std::string job(const std::string& more = "") {
    return "train --config job.ini --model.width 64 --model.ffn 64 --train.batch 8 --adapter.dropout 0.1 --data.valid "
           "train.h5 "
           "--train.evaluate_every 20 --train.steps " +
           std::to_string(kSteps) + " " + more;
  }

  static int kills() {
    const char* wanted = std::getenv("LORASHARD_KILLS");
    return wanted ? std::atoi(wanted) : 2;
  }
};

TEST_F(Interrupted, KilledAtRandomMoments) {
  const std::string expected = undisturbed(job());
  std::mt19937 random(std::random_device{}());
  for (int kill = 0; kill < kills(); ++kill) {
    const long steps = 1 + static_cast<long>(random() % kSteps);
    start_and_signal(program() + " " + job(), SIGKILL, steps);
  }
  const Outcome last = call(job());
  EXPECT_EQ(last.code, 0) << last.err;
  EXPECT_TRUE(content_of(at("run/adapter.h5")) == expected);
  expect_each_step_once(kSteps);
}

TEST_F(Interrupted, KilledOnTwoRanks) {
  const std::string expected = undisturbed(job("--mesh.tensor 2"), mpirun(2));
  start_and_signal(mpirun(2) + " " + program() + " " + job("--mesh.tensor 2"), SIGKILL, 25);
  const Outcome last = call_when_free(job("--mesh.tensor 2"), mpirun(2));
  EXPECT_EQ(last.code, 0) << last.err;
  EXPECT_TRUE(content_of(at("run/adapter.h5")) == expected);
  expect_each_step_once(kSteps);
}

TEST_F(Interrupted, AskedToStop) {
  const std::string expected = undisturbed(job());
  const int status = start_and_signal(program() + " " + job(), SIGUSR1, 10);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_THAT(content_of(at(".out")), HasSubstr("stopped by the system; saved run/checkpoints/step-000000"));
  const Outcome last = call(job());
  EXPECT_EQ(last.code, 0) << last.err;
  EXPECT_THAT(last.out, HasSubstr("continuing after"));
  EXPECT_TRUE(content_of(at("run/adapter.h5")) == expected);
  expect_each_step_once(kSteps);
  EXPECT_THAT(call(job()).out, HasSubstr("all 60 steps are done"));
}

}  // namespace
}  // namespace lorashard::launch
