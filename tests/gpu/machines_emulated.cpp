// What the program says where the GPUs are not as a job wants them. The emulator's machine is set by the environment
// (tests/emulator/devices.cpp).
#include "kernels/device.hpp"
#include "tests/launch/whole_runs.hpp"

namespace lorashard::launch {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

class EmulatedMachine : public WholeRuns {
 protected:
  void SetUp() override {
    write_file(at("text.txt"), some_text(2000));
    write_file(at("job.ini"), std::string(kTinyJob));
    ASSERT_EQ(call("tokenize --from text.txt --to train.h5").code, 0) << content_of(at(".err"));
  }

  // One line, whatever mpirun adds of its own, and no file.
  void expect_refused(const std::string& more, const std::string& before, int code,
                      const testing::Matcher<const std::string&>& message) {
    SCOPED_TRACE(before + " " + more);
    const auto there = everything();
    const Outcome outcome = call("train --config job.ini --device.kind cuda " + more, before);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    std::istringstream lines(outcome.err);
    std::vector<std::string> ours;
    for (std::string line; std::getline(lines, line);)
      if (line.starts_with("lorashard") || line.starts_with("emulator")) ours.push_back(line);
    ASSERT_EQ(ours.size(), 1u) << outcome.err;
    EXPECT_THAT(ours[0], message);
    EXPECT_TRUE(everything() == there) << "a file was made";
  }
};

TEST_F(EmulatedMachine, SaysThatItIsEmulated) {
  EXPECT_THAT(call("--version").out, ContainsRegex("^lorashard [0-9.]+, CUDA [0-9.]+, emulated, NCCL "));
  const Outcome run = call("train --config job.ini --device.kind cuda");
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.out, ContainsRegex("device cuda \\(CUDA [0-9.]+, emulated\\), fp32"));
  EXPECT_THAT(content_of(at("run/summary.json")), ContainsRegex("\"device\":\"cuda \\(CUDA [0-9.]+, emulated\\)\""));
  EXPECT_THAT(call("info --table run").out, ContainsRegex("device +cuda \\(CUDA [0-9.]+, emulated\\)"));
}

TEST_F(EmulatedMachine, NoGpu) {
  expect_refused("", "LORASHARD_EMULATOR_DEVICES=0", 2,
                 AllOf(HasSubstr("there is no GPU here"), HasSubstr("emulated")));
}

TEST_F(EmulatedMachine, MoreRanksThanGpus) {
  const std::string two_ranks = "LORASHARD_EMULATOR_DEVICES=1 " + mpirun(2);
  expect_refused("--mesh.tensor 2", two_ranks, 2,
                 ContainsRegex("ranks on host .*: found 2, expected at most 1, its GPUs; device.oversubscribe"));
  expect_refused("--mesh.tensor 2 --device.oversubscribe yes", two_ranks, 5,
                 AllOf(HasSubstr("over axis "), HasSubstr("NCCL"), testing::ContainsRegex("[Dd]uplicate GPU")));
}

TEST_F(EmulatedMachine, CardThatIsTooOld) {
  expect_refused("", "LORASHARD_EMULATOR_CAPABILITY=7.0", 2,
                 HasSubstr("GPU 0 is a emulated of compute capability 7.0, expected 8.0 or newer"));
}

TEST_F(EmulatedMachine, NodeCheckTriesEveryPairOfGpus) {
  const Outcome good = call("check --json", "LORASHARD_EMULATOR_DEVICES=3 " + mpirun(3));
  EXPECT_EQ(good.code, 0) << good.err;
  const boost::json::value found = boost::json::parse(good.out);
  EXPECT_EQ(found.at("nodes").at(0).at("gpus").to_number<int>(), 3);
  EXPECT_GT(found.at("nodes").at(0).at("pair_bytes_per_s").to_number<double>(), 0);
  EXPECT_THAT(call("check", "LORASHARD_EMULATOR_DEVICES=4 " + mpirun(2)).out, HasSubstr("of the first 2 of 4 GPUs"));
  EXPECT_THAT(call("check", "LORASHARD_EMULATOR_DEVICES=2").out, HasSubstr("not tried: one rank a node"));
  const Outcome bad = call("check", "LORASHARD_EMULATOR_CAPABILITY=7.0 LORASHARD_EMULATOR_DEVICES=2 " + mpirun(2));
  EXPECT_EQ(bad.code, 5);
  EXPECT_THAT(bad.out, ContainsRegex("bad node .*: GPUs: GPU [01] is a emulated of compute capability 7.0"));
}

TEST_F(EmulatedMachine, OutOfMemory) {
  const auto message = ContainsRegex("memory of GPU [01] .*: [0-9]+ bytes asked for with [0-9]+ bytes held");
  expect_refused("", "LORASHARD_EMULATOR_MEMORY=100000", 3, message);
  expect_refused("--mesh.tensor 2", "LORASHARD_EMULATOR_MEMORY=100000 " + mpirun(2), 3, message);
}

// Memory for the model but not for a step: the run has begun, and is refused in one line all the same.
TEST_F(EmulatedMachine, OutOfMemoryInTheFirstStep) {
  const Outcome plan = call("train --config job.ini --device.kind meta --target cuda --json");
  const boost::json::object rank = boost::json::parse(plan.out).at("per_rank").at(0).as_object();
  const std::int64_t peak_bytes = rank.at("peak_bytes").as_int64();
  const Outcome run = call("train --config job.ini --device.kind cuda",
                           "LORASHARD_EMULATOR_MEMORY=" + std::to_string(peak_bytes - 1000));
  EXPECT_EQ(run.code, 3) << run.err;
  EXPECT_EQ(run.error_lines(), 1) << run.err;
  EXPECT_THAT(run.err, HasSubstr("bytes asked for"));
  EXPECT_EQ(content_of(at("run/metrics.jsonl")), "");
}

TEST_F(EmulatedMachine, ProgramWithoutCuda) {
  const std::string command = "cd '" + folder_.string() + "' && " + LORASHARD_WITHOUT_CUDA +
                              " train --config job.ini --device.kind cuda >.out 2>.err";
  const int status = std::system(command.c_str());
  EXPECT_EQ(WEXITSTATUS(status), 2);
  EXPECT_EQ(
      content_of(at(".err")),
      "lorashard: device.kind: found cuda, but there is no GPU here (this program is built without CUDA); expected "
      "host or meta\n");
  EXPECT_FALSE(std::filesystem::exists(at("run")));
}

}  // namespace
}  // namespace lorashard::launch
