// A run that is killed, or asked to stop, and started again ends in the very bytes of a run that was left alone.
// LORASHARD_KILLS sets how often it is killed (2 unless set; ten in the test labelled slow).
#include <gmock/gmock.h>
#include <signal.h>
#include <spawn.h>

#include <random>
#include <thread>

#include "tests/launch/program.hpp"

namespace lorashard::launch {
namespace {

using testing::HasSubstr;

class Interrupted : public Program {
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

  // Starts the job in a process group of its own and sends it `signal` once `steps` lines of metrics are there.
  int start_and_signal(const std::string& command, int signal, long steps) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::setpgid(0, 0);
      const std::string line = "cd '" + folder_.string() + "' && exec " + command + " >.out 2>.err";
      ::execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
      ::_exit(127);
    }
    ::setpgid(child, child);
    int status = 0;
    while (::waitpid(child, &status, WNOHANG) == 0) {
      const std::string metrics = content_of(at("run/metrics.jsonl"));
      if (std::count(metrics.begin(), metrics.end(), '\n') >= steps) {
        ::kill(-child, signal);
        ::waitpid(child, &status, 0);
        break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return status;
  }

  std::string undisturbed(const std::string& more = "") {
    const Outcome outcome = call(job(more));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    const std::string adapter = content_of(at("run/adapter.h5"));
    EXPECT_GT(adapter.size(), 0u);
    std::filesystem::remove_all(at("run"));  // the run below has the same run.dir, which checkpoints name
    return adapter;
  }

  void expect_each_step_once() {
    std::istringstream lines(content_of(at("run/metrics.jsonl")));
    int step = 0;
    for (std::string line; std::getline(lines, line); ++step)
      EXPECT_THAT(line, testing::StartsWith("{\"step\":" + std::to_string(step) + ","));
    EXPECT_EQ(step, kSteps);
  }

  static int kills() {
    const char* wanted = std::getenv("LORASHARD_KILLS");
    return wanted ? std::atoi(wanted) : 2;
  }
};

TEST_F(Interrupted, KilledAtRandomMoments) {
  const std::string expected = undisturbed();
  std::mt19937 random(std::random_device{}());
  for (int kill = 0; kill < kills(); ++kill) {
    const long steps = 1 + static_cast<long>(random() % kSteps);
    start_and_signal(std::string(LORASHARD_PROGRAM) + " " + job(), SIGKILL, steps);
  }
  const Outcome last = call(job());
  EXPECT_EQ(last.code, 0) << last.err;
  EXPECT_TRUE(content_of(at("run/adapter.h5")) == expected);
  expect_each_step_once();
}

TEST_F(Interrupted, KilledOnTwoRanks) {
  const Outcome whole = call(job("--mesh.tensor 2"), mpirun(2));
  ASSERT_EQ(whole.code, 0) << whole.err;
  const std::string expected = content_of(at("run/adapter.h5"));
  std::filesystem::remove_all(at("run"));
  start_and_signal(mpirun(2) + " " + LORASHARD_PROGRAM + " " + job("--mesh.tensor 2"), SIGKILL, 25);
  // Ranks outlive a killed mpirun for a moment, and hold the lock for as long.
  Outcome last;
  for (int attempt = 0; attempt < 100; ++attempt) {
    last = call(job("--mesh.tensor 2"), mpirun(2));
    if (last.err.find("in use by another run") == std::string::npos) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(last.code, 0) << last.err;
  EXPECT_TRUE(content_of(at("run/adapter.h5")) == expected);
  expect_each_step_once();
}

TEST_F(Interrupted, AskedToStop) {
  const std::string expected = undisturbed();
  const int status = start_and_signal(std::string(LORASHARD_PROGRAM) + " " + job(), SIGUSR1, 10);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_THAT(content_of(at(".out")), HasSubstr("stopped by the system; saved run/checkpoints/step-000000"));
  const Outcome last = call(job());
  EXPECT_EQ(last.code, 0) << last.err;
  EXPECT_THAT(last.out, HasSubstr("continuing after"));
  EXPECT_TRUE(content_of(at("run/adapter.h5")) == expected);
  expect_each_step_once();
  EXPECT_THAT(call(job()).out, HasSubstr("all 60 steps are done"));
}

}  // namespace
}  // namespace lorashard::launch
