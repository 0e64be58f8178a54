// A run that is killed, or asked to stop, and started again ends in the very bytes of a run that was left alone.
// LORASHARD_KILLS sets how often it is killed (2 unless set; ten in the test labelled slow).
#include <ctime>
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

TEST_F(Interrupted, OutOfTime) {
  const std::string expected = undisturbed(job());
  // A margin is kept for a save that was never measured: the first step is the last one.
  const Outcome first = call(job("--time-left 12s"));
  EXPECT_EQ(first.code, 7) << first.err;
  EXPECT_THAT(first.out, testing::AllOf(HasSubstr("out of time ("), HasSubstr(" left); saved run/checkpoints/step-00000001.h5")));
  const Outcome slurm = call(job(), "env SLURM_JOB_END_TIME=" + std::to_string(std::time(nullptr) + 5));
  EXPECT_EQ(slurm.code, 7) << slurm.err;
  EXPECT_THAT(slurm.out, HasSubstr("saved run/checkpoints/step-00000002.h5"));
  const Outcome last = call(job("--time-left 2h"));
  EXPECT_EQ(last.code, 0) << last.err;
  EXPECT_TRUE(content_of(at("run/adapter.h5")) == expected);
  expect_each_step_once(kSteps);
}

// Whether a checkpoint is written beside the steps or between them, it is the same state.
TEST_F(Interrupted, SavesBesideTheStepsAndBetweenThem) {
  for (const char* beside : {"yes", "no"}) {
    const std::string more = std::string("--run.background_save ") + beside;
    const std::string expected = undisturbed(job(more));
    start_and_signal(program() + " " + job(more), SIGKILL, 33);
    EXPECT_TRUE(std::filesystem::exists(at("run/checkpoints/step-00000021.h5")) ||
                std::filesystem::exists(at("run/checkpoints/step-00000028.h5")));
    EXPECT_EQ(call(job(more)).code, 0) << content_of(at(".err"));
    EXPECT_TRUE(content_of(at("run/adapter.h5")) == expected) << more;
    std::filesystem::remove_all(at("run"));
  }
}

// A learning rate that throws the weights out of range: the state after it is no good, and is not saved as if it were.
TEST_F(Interrupted, NotFinite) {
  const std::string wild = "--optimizer.lr 1e38 --optimizer.clip 0 ";
  const Outcome stopped = call(job(wild));
  EXPECT_EQ(stopped.code, 4);
  EXPECT_EQ(stopped.error_lines(), 1) << stopped.err;
  EXPECT_THAT(stopped.err, HasSubstr("rank 0 (host "));
  EXPECT_THAT(stopped.err, HasSubstr("step 1: found loss nan"));
  EXPECT_THAT(stopped.err, HasSubstr("; first in layers.0."));
  EXPECT_THAT(stopped.err, HasSubstr("the last checkpoint is from before that"));
  EXPECT_FALSE(std::filesystem::exists(at("run/checkpoints/step-00000001.h5")));
  std::filesystem::remove_all(at("run"));
  const Outcome skipping = call(job(wild + "--train.on_nan skip"));
  EXPECT_EQ(skipping.code, 4) << "no step can be left out when the state itself is not finite";
}

}  // namespace
}  // namespace lorashard::launch
