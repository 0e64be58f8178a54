// The program on the cuda device, called as a user calls it.
#include "kernels/device.hpp"
#include "tests/launch/whole_runs.hpp"

namespace lorashard::launch {
namespace {

using kernels::text;
using testing::ElementsAre;
using testing::HasSubstr;

class ProgramOnCuda : public WholeRuns {
 protected:
  static constexpr int kSteps = 12;

  void SetUp() override {
    if (kernels::cuda_device_count() == 0) GTEST_SKIP() << "no GPU here; " << kernels::cuda_build();
    write_file(at("text.txt"), some_text(2000));
    write_file(at("few.txt"), some_text(100));
    write_file(at("job.ini"), kTinyJob);
    ASSERT_EQ(call("tokenize --from text.txt --to train.h5").code, 0) << content_of(at(".err"));
    ASSERT_EQ(call("tokenize --from few.txt --to few.h5").code, 0) << content_of(at(".err"));
  }

  static std::string job(const std::string& more = "") {
    return text("train --config job.ini --device.kind cuda --adapter.dropout 0.1 --train.steps ", kSteps, " ", more);
  }
  // Time enough to be stopped in: a step takes some 50 ms on the emulator, and 2 on a GPU.
  static int many_steps() { return kernels::cuda_build().find("emulated") == std::string::npos ? 300 : kSteps; }
  static std::string long_job(const std::string& more = "") {
    return job(text("--train.steps ", many_steps(), " ", more));
  }
  static bool enough_gpus(int ranks) { return kernels::cuda_device_count() >= ranks; }
  static std::string on_one(const std::string& command) { return program() + " " + command; }
  static std::string on_two(const std::string& command) { return mpirun(2) + " " + on_one(command); }
};

#define NEEDS_GPUS(n) \
  if (!enough_gpus(n)) GTEST_SKIP() << n << " GPUs are needed; " << kernels::cuda_build()

TEST_F(ProgramOnCuda, SaysWhatItRanOn) {
  const std::string device = text("cuda (", kernels::cuda_build(), ")");
  EXPECT_THAT(call("--version").out, HasSubstr(text(", ", kernels::cuda_build(), ", NCCL ")));
  const Outcome run = call(job());
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr(text("device ", device, ", fp32")));
  EXPECT_EQ(boost::json::parse(content_of(at("run/summary.json"))).at("device"), boost::json::string(device));
  ASSERT_EQ(call("train --config job.ini --run.dir other").code, 0);
  EXPECT_THAT(call("info --table run other").out,
              testing::ContainsRegex("device +" + text("cuda \\(", kernels::cuda_build(), "\\)") + " +host"));
}

TEST_F(ProgramOnCuda, CertifiesItsMesh) {
  NEEDS_GPUS(2);
  const std::string certify = "parity --config job.ini --device.kind cuda --adapter.targets all --mesh.tensor 2";
  const Outcome outcome = call(certify, mpirun(2));
  EXPECT_EQ(outcome.code, 0) << outcome.err << outcome.out;
  EXPECT_THAT(outcome.out, HasSubstr(text("cuda (", kernels::cuda_build(), "), 2 ranks on 1 host")));
  EXPECT_THAT(outcome.out, HasSubstr("the mesh computes what one rank computes"));
}

// TF32 rounds operands to 2^-11: it must show in the loss of the first step, and only in its last digits.
TEST_F(ProgramOnCuda, Tf32) {
  ASSERT_EQ(call(job()).code, 0) << content_of(at(".err"));
  const double exact = metrics().front().at("loss").to_number<double>();
  std::filesystem::remove_all(at("run"));
  ASSERT_EQ(call(job("--device.tf32 yes")).code, 0) << content_of(at(".err"));
  const double rounded = metrics().front().at("loss").to_number<double>();
  EXPECT_NE(rounded, exact);
  EXPECT_NEAR(rounded, exact, 0x1.0p-6 * exact);
}

// A checkpoint after every step lets no step begin before the last one's report; with fewer of them most do.
TEST_F(ProgramOnCuda, StepsBegunEarlyAreReportedOnceAndInOrder) {
  const std::string valid = "--data.valid few.h5 --train.evaluate_every 5 --run.keep 12 --run.checkpoint_every ";
  ASSERT_EQ(call(job(valid + "1")).code, 0) << content_of(at(".err"));
  std::vector<boost::json::object> expected = metrics();
  std::filesystem::remove_all(at("run"));
  ASSERT_EQ(call(job(valid + "4")).code, 0) << content_of(at(".err"));
  std::vector<boost::json::object> found = metrics();
  expect_each_step_once(kSteps);
  std::vector<std::size_t> evaluated;
  for (std::size_t step = 0; step < found.size(); ++step) {
    if (found[step].contains("valid_loss")) evaluated.push_back(step);
    for (auto* lines : {&found, &expected}) (*lines)[step].erase("tokens_per_s");
  }
  EXPECT_THAT(evaluated, ElementsAre(4, 9, 11));
  EXPECT_EQ(found, expected);  // loss, norm, learning rate and held-out loss, every digit
  for (const char* step : {"4", "8", "12"}) {
    const std::string file = text("run/checkpoints/step-", std::string(8 - std::strlen(step), '0'), step, ".h5");
    EXPECT_THAT(call("info " + file).out, HasSubstr(text(step, " steps done")));
  }
}

TEST_F(ProgramOnCuda, OnTwoRanks) {
  NEEDS_GPUS(2);
  for (const char* mesh :
       {"--mesh.tensor 2 --mesh.sequence_parallel yes", "--mesh.pipeline 2 --train.microbatch 1", ""}) {
    SCOPED_TRACE(mesh);
    const Outcome run = call(job(mesh), mpirun(2));
    EXPECT_EQ(run.code, 0) << run.err;
    EXPECT_THAT(run.out, HasSubstr(text("device cuda (", kernels::cuda_build())));
    expect_each_step_once(kSteps);
    std::filesystem::remove_all(at("run"));
  }
}

TEST_F(ProgramOnCuda, AskedToStop) {
  const std::string expected = undisturbed(long_job());
  const int status = start_and_signal(on_one(long_job()), SIGTERM, 3);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7) << content_of(at(".err"));
  EXPECT_THAT(content_of(at(".out")), HasSubstr("stopped by the system; saved run/checkpoints/step-000000"));
  const Outcome last = call(long_job());
  EXPECT_EQ(last.code, 0) << last.err;
  EXPECT_THAT(last.out, HasSubstr("continuing after"));
  EXPECT_TRUE(content_of(at("run/adapter.h5")) == expected);
  expect_each_step_once(many_steps());
}

// mpirun passes SIGUSR1 on; SIGTERM would end it.
TEST_F(ProgramOnCuda, AskedToStopOnTwoRanks) {
  NEEDS_GPUS(2);
  const std::string expected = undisturbed(long_job(), mpirun(2));
  const int status = start_and_signal(on_two(long_job()), SIGUSR1, 3);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7) << content_of(at(".err"));
  EXPECT_EQ(call(long_job(), mpirun(2)).code, 0) << content_of(at(".err"));
  EXPECT_TRUE(content_of(at("run/adapter.h5")) == expected);
  expect_each_step_once(many_steps());
}

TEST_F(ProgramOnCuda, Killed) {
  const std::string every = long_job("--run.checkpoint_every 3 --adapter.targets all"), expected = undisturbed(every);
  start_and_signal(on_one(every), SIGKILL, 5);
  start_and_signal(on_one(every), SIGKILL, 10);
  const Outcome last = call_when_free(every);
  EXPECT_EQ(last.code, 0) << last.err;
  EXPECT_THAT(last.out, HasSubstr("continuing after"));
  EXPECT_TRUE(content_of(at("run/adapter.h5")) == expected);
  expect_each_step_once(many_steps());
}

TEST_F(ProgramOnCuda, KilledOnTwoRanks) {
  NEEDS_GPUS(2);
  const std::string every = long_job("--run.checkpoint_every 5 --mesh.tensor 2"),
                    expected = undisturbed(every, mpirun(2));
  start_and_signal(on_two(every), SIGKILL, 8);
  const Outcome last = call_when_free(every, mpirun(2));
  EXPECT_EQ(last.code, 0) << last.err;
  EXPECT_TRUE(content_of(at("run/adapter.h5")) == expected);
  expect_each_step_once(many_steps());
}

TEST_F(ProgramOnCuda, PlanAgreesWithRun) {
  const std::string tiny = "train --config job.ini --data.valid few.h5 ";
  const auto agrees = [&](const std::string& keys, int ranks) {
    expect_plan_agrees(tiny + keys, " --target cuda", " --device.kind cuda", ranks);
  };
  agrees("--adapter.targets all --adapter.dropout 0.1", 1);
  agrees("--adapter.method full --train.precision bf16 --train.recompute full", 1);
  if (!enough_gpus(2)) return;
  agrees("--adapter.targets all --train.precision bf16 --mesh.tensor 2 --mesh.sequence_parallel yes", 2);
  agrees("--adapter.method full --mesh.pipeline 2 --train.microbatch 1", 2);
  agrees("--adapter.method full", 2);
}

TEST_F(ProgramOnCuda, PlanSaysForWhichDevice) {
  EXPECT_THAT(call(job("--device.kind meta --target cuda")).out, HasSubstr("device meta for cuda"));
  EXPECT_THAT(call(job("--device.kind meta")).out, HasSubstr("device meta for host"));
  const Outcome refused = call(job("--device.kind meta --target gpu"));
  EXPECT_EQ(refused.code, 2);
  EXPECT_EQ(refused.err, "lorashard: command line: --target: found 'gpu', expected host or cuda\n");
}

// The step that went wrong is named although a later one was begun; what was saved before stays as it was, and the state
// ahead of the step is saved beside it.
TEST_F(ProgramOnCuda, NumbersThatAreNotFinite) {
  ASSERT_EQ(call(job("--train.steps 3 --adapter.targets all")).code, 0) << content_of(at(".err"));
  const std::string saved = content_of(at("run/checkpoints/step-00000003.h5"));
  const Outcome wild = call(job("--adapter.targets all --optimizer.lr 1e30 --optimizer.schedule constant"));
  EXPECT_EQ(wild.code, 4) << wild.err;
  EXPECT_EQ(wild.error_lines(), 1) << wild.err;
  // Step 3 is the first with that rate: its loss is of the weights before it.
  EXPECT_THAT(wild.err, testing::AllOf(HasSubstr("step 4: found loss "), HasSubstr("nothing was updated")));
  EXPECT_EQ(metrics().size(), 4u);
  EXPECT_TRUE(content_of(at("run/checkpoints/step-00000003.h5")) == saved);
  EXPECT_THAT(wild.err, HasSubstr("the state before it is saved as run/checkpoints/step-00000004.h5"));
  EXPECT_TRUE(std::filesystem::exists(at("run/checkpoints/step-00000004.h5")));
}

TEST_F(ProgramOnCuda, BaseThatOverflows) {
  ASSERT_EQ(call("train --config job.ini --adapter.method full --optimizer.lr 1e30 --train.steps 1").code, 0)
      << content_of(at(".err"));
  const Outcome refused = call(job("--run.dir next --model.base run/model.h5"));
  EXPECT_EQ(refused.code, 4) << refused.err;
  EXPECT_EQ(refused.error_lines(), 1) << refused.err;
  EXPECT_THAT(refused.err, HasSubstr("step 0: found loss "));
  EXPECT_EQ(content_of(at("next/metrics.jsonl")), "");
  EXPECT_FALSE(std::filesystem::exists(at("next/adapter.h5")));
}

}  // namespace
}  // namespace lorashard::launch
