// lorashard launch: the batch script of a job, what is refused before there is one, and what sbatch is handed.
#include <gmock/gmock.h>

#include <boost/json.hpp>

#include "launch/slurm_job.hpp"
#include "tests/launch/program.hpp"

namespace lorashard::launch {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

const std::string kCards = "launch --slurm --config cards.ini --device.hardware a100-80gb ";

class Launch : public Program {
 protected:
  void SetUp() override {
    write_file(at("job.ini"), kTinyJob);
    // GPT-3 175B, as in configs/gpt3-175b-lora.ini.
    write_file(at("cards.ini"),
               "[model]\nlayers = 96\nwidth = 12288\nheads = 96\nvocab = 50257\ncontext = 2048\n[adapter]\nrank = 4\n"
               "[train]\nsteps = 1000\nbatch = 96\nmicrobatch = 1\nprecision = bf16\nrecompute = selective\n"
               "[mesh]\ntensor = 8\nsequence_parallel = yes\n[device]\nkind = cuda\n[run]\ndir = big\n");
  }

  // "nodes" -> "12" of the line #SBATCH --nodes=12; a switch has "".
  static std::map<std::string, std::string> batch_options(const std::string& script) {
    std::map<std::string, std::string> options;
    std::istringstream lines(script);
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with("#SBATCH --")) continue;
      const std::size_t equals = std::min(line.find('='), line.size());
      options[line.substr(10, equals - 10)] = equals < line.size() ? line.substr(equals + 1) : "";
    }
    return options;
  }

  std::string script_of(const std::string& arguments) {
    const Outcome outcome = call(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    write_file(at("printed.sbatch"), outcome.out);
    EXPECT_EQ(std::system(("bash -n '" + at("printed.sbatch").string() + "'").c_str()), 0) << outcome.out;
    return outcome.out;
  }

  void expect_refused(const std::string& arguments, const testing::Matcher<const std::string&>& message, int code = 2) {
    SCOPED_TRACE(arguments);
    const auto there = everything();
    const Outcome outcome = call(arguments);
    EXPECT_EQ(outcome.code, code);
    EXPECT_EQ(outcome.error_lines(), 1) << outcome.err;
    EXPECT_THAT(outcome.err, message);
    EXPECT_EQ(outcome.out, "");
    EXPECT_TRUE(everything() == there) << "a file was made";
  }

  // A program of this name that is found before others.
  void put_on_path(const std::string& name, const std::string& script) {
    std::filesystem::create_directories(at("bin"));
    write_file(at("bin") / name, "#!/usr/bin/env bash\n" + script);
    std::filesystem::permissions(at("bin") / name, std::filesystem::perms::owner_all);
  }
};

TEST_F(Launch, WritesWhatThePlanSays) {
  const std::string script =
      script_of(kCards + "--ranks 96 --partition gpu --account a1 --qos long --constraint 'x&y'");
  EXPECT_EQ(script, content_of(at("big/job.sbatch")));
  auto options = batch_options(script);
  EXPECT_EQ(options["nodes"], "12");
  EXPECT_EQ(options["ntasks-per-node"], "8");
  EXPECT_EQ(options["gpus-per-node"], "8");
  EXPECT_EQ(options["cpus-per-task"], "4");
  EXPECT_EQ(options["partition"] + options["account"] + options["qos"] + options["constraint"], "gpua1longx&y");
  EXPECT_EQ(options["output"], (at("big") / "slurm-%j.out").string());
  EXPECT_EQ(options["chdir"], folder_.string());
  EXPECT_EQ(options.count("requeue"), 0u);
  EXPECT_THAT(script, AllOf(HasSubstr("12: 96 ranks (--ranks), 8 a node; mesh 8x1x12"),
                            HasSubstr("48.6 GiB of 79.2 GiB a GPU of A100-80GB"), HasSubstr("export launcher=srun\n")));
  EXPECT_THAT(script,
              MatchesRegex("(.|\n)*\nexec /[^ ]*cluster/run_job /[^ ]*/cards.ini --device.hardware a100-80gb\n"));
}

// The steps, half of them again, ten minutes, and a few for loading and saving.
TEST_F(Launch, TimeLimitComesFromThePlannedStep) {
  const Outcome plan = call("plan --config cards.ini --device.hardware a100-80gb --ranks 96 --json");
  const double step_s = boost::json::parse(plan.out).at("step_s").to_number<double>();
  const auto limit_of = [&](const std::string& more) {
    return *slurm_seconds(batch_options(script_of(kCards + "--ranks 96 " + more))["time"]);
  };
  EXPECT_GE(limit_of(""), 600 + 1.5 * 1000 * step_s);
  EXPECT_LE(limit_of(""), 600 + 1.5 * 1000 * step_s + 900);
  EXPECT_GE(limit_of("--train.steps 20000"), 600 + 1.5 * 20000 * step_s) << "days";
  EXPECT_EQ(limit_of("--time 0:30:00"), 1800);
  const std::string short_of = script_of(kCards + "--ranks 96 --time 1:00:00");
  EXPECT_THAT(short_of, HasSubstr("so the job will have to be started 3 times or more"));
}

TEST_F(Launch, NodesAndRanksFollowFromEachOther) {
  auto options = batch_options(script_of(kCards));
  EXPECT_EQ(options["nodes"] + "x" + options["ntasks-per-node"], "1x8") << "tensor x pipeline";
  options = batch_options(script_of(kCards + "--nodes 3"));
  EXPECT_EQ(options["nodes"] + "x" + options["ntasks-per-node"], "3x8");
  options = batch_options(script_of(kCards + "--nodes 4 --gpus-per-node 4 --tensor-across-nodes"));
  EXPECT_EQ(options["nodes"] + "x" + options["gpus-per-node"], "4x4");
  options = batch_options(script_of("launch --slurm --config job.ini --time 5 --nodes 2 --tasks-per-node 1"));
  EXPECT_EQ(options["nodes"] + "x" + options["ntasks-per-node"] + "x" + options["cpus-per-task"], "2x1x1");
  EXPECT_EQ(options.count("gpus-per-node"), 0u);
  EXPECT_EQ(batch_options(script_of(kCards + "--device.threads 1"))["cpus-per-task"], "4") << "of which one computes";
  EXPECT_EQ(batch_options(script_of(kCards + "--device.threads 6"))["cpus-per-task"], "6");
}

TEST_F(Launch, KeysAndOptionsReachTheJob) {
  const std::string script = script_of(
      "launch --slurm --config job.ini --time 5 --ranks 2 --requeue --no-check --launcher mpirun --memory 3G "
      "--run.dir \"it's here\" --train.steps=7");
  EXPECT_THAT(script, HasSubstr("run_job --requeue --no-check "));
  EXPECT_THAT(script, HasSubstr("/job.ini --run.dir 'it'\\''s here' --train.steps 7\n"));
  EXPECT_THAT(script, HasSubstr("export launcher=mpirun\n"));
  auto options = batch_options(script);
  EXPECT_EQ(options.count("requeue"), 1u);
  EXPECT_EQ(options["mem"], "3G");
  EXPECT_EQ(options["signal"], "B:USR1@150") << "half of five minutes, where 300 s are more than that";
  EXPECT_EQ(content_of(at("it's here/job.sbatch")), script);
}

TEST_F(Launch, NoPlaceToWriteButStdout) {
  write_file(at("placeless.ini"), std::string(kTinyJob).substr(0, std::string(kTinyJob).find("[run]")));
  const auto there = everything();
  const Outcome outcome = call("launch --slurm --config placeless.ini --time 5");
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(batch_options(outcome.out).count("output"), 0u);
  EXPECT_TRUE(everything() == there);
  expect_refused("launch --slurm --submit --config placeless.ini --time 5", HasSubstr("run.dir: missing"));
}

TEST_F(Launch, RefusesRanksThatDoNotGoOntoNodes) {
  expect_refused(kCards + "--ranks 12",
                 HasSubstr("found 12 ranks, expected a multiple of 8, mesh.tensor x mesh.pipeline"));
  expect_refused(kCards + "--nodes 1 --gpus-per-node 4", HasSubstr("found 4 GPUs on 1 node, expected at least 8"));
  expect_refused(kCards + "--mesh.tensor 4 --ranks 12",
                 HasSubstr("found 12 ranks, expected a multiple of 8, the ranks of a node"));
  expect_refused(kCards + "--ranks 16 --gpus-per-node 4",
                 HasSubstr("a tensor group would leave its node (--tensor-across-nodes"));
  expect_refused(kCards + "--ranks 24 --nodes 5", HasSubstr("--nodes: found 5 for 24 ranks"));
  expect_refused(kCards + "--ranks 32 --nodes 2", HasSubstr("16 on each, expected at most 8, the GPUs of a node"));
  expect_refused(kCards + "--ranks 40", HasSubstr("train.batch: found 96"));
}

TEST_F(Launch, RefusesWhatIsMissingOrOfTheWrongKind) {
  expect_refused("launch --config job.ini", HasSubstr("--slurm: missing"));
  expect_refused("launch --slurm --config job.ini", HasSubstr("--time: missing, expected it, or device.hardware"));
  expect_refused("launch --slurm --config job.ini --time 5 --device.threads 0", HasSubstr("--cpus-per-task: missing"));
  expect_refused("launch --slurm --config job.ini --time 5 --device.threads 3 --cpus-per-task 2",
                 HasSubstr("found 2, expected at least device.threads = 3"));
  expect_refused("launch --slurm --config cards.ini --time 5", HasSubstr("--gpus-per-node: missing"));
  expect_refused(kCards + "--tasks-per-node 2", HasSubstr("expected --gpus-per-node"));
  expect_refused(kCards + "--device.kind host", HasSubstr("device.hardware: found A100-80GB (cuda)"));
  expect_refused(kCards + "--device.kind meta", HasSubstr("device.kind: found meta"));
  expect_refused(kCards + "--time soon", HasSubstr("--time: found 'soon'"));
  expect_refused(kCards + "--partition 'a b'", HasSubstr("--partition: found 'a b'"));
  expect_refused(kCards + "--launcher ssh", HasSubstr("--launcher: found 'ssh', expected srun or mpirun"));
  expect_refused(kCards + "--memory lots", HasSubstr("--memory: found 'lots'"));
}

TEST_F(Launch, RefusesWhatDoesNotFit) {
  expect_refused(kCards + "--mesh.tensor 4",
                 AllOf(HasSubstr("does not fit: stage 0 needs "), HasSubstr("of 79.2 GiB a rank")), 3);
}

// MPI, which this program has started by then, must not be in what the job inherits.
TEST_F(Launch, SubmitsFromTheEnvironmentItWasCalledIn) {
  put_on_path("sbatch", "env > called-with\necho \"$@\" >> called-with\necho 4711\n");
  const std::string path = "PATH=$PWD/bin:$PATH MINE=1";
  const Outcome outcome = call("launch --slurm --submit --config job.ini --time 5", path);
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "written to run/job.sbatch\nsubmitted as job 4711\n");
  const std::string called = content_of(at("called-with"));
  EXPECT_THAT(called, AllOf(HasSubstr("\nMINE=1\n"), HasSubstr("--parsable run/job.sbatch\n"), Not(HasSubstr("PMIX_")),
                            Not(HasSubstr("CUDA_DEVICE_MAX_CONNECTIONS"))));
}

TEST_F(Launch, SaysSbatchsErrorInOneLine) {
  put_on_path("sbatch", "echo 'sbatch: error: no such partition' >&2\necho 'sbatch: error: failed' >&2\nexit 1\n");
  const Outcome outcome = call("launch --slurm --submit --config job.ini --time 5", "PATH=$PWD/bin:$PATH");
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("\nlorashard: sbatch: error: no such partition; sbatch: error: failed\n"));
  std::filesystem::remove(at("bin") / "sbatch");
  put_on_path("ssh", "");  // Open MPI looks for one where there is no Slurm
  const Outcome none = call("launch --slurm --submit --config job.ini --time 5", "PATH=$PWD/bin");
  EXPECT_EQ(none.code, 2);
  EXPECT_THAT(none.err, HasSubstr("\nlorashard: sbatch: cannot be started: No such file or directory\n"));
}

TEST_F(Launch, NodeCheckOfOneHost) {
  const auto there = everything();
  const Outcome good = call("check --dir . --json", mpirun(2));
  EXPECT_EQ(good.code, 0) << good.err;
  const boost::json::value found = boost::json::parse(good.out);
  ASSERT_EQ(found.at("nodes").as_array().size(), 1u);
  const boost::json::value& node = found.at("nodes").at(0);
  EXPECT_EQ(node.at("ranks").to_number<int>(), 2);
  EXPECT_GE(node.at("cores").to_number<int>(), 1);
  EXPECT_GT(node.at("free_memory_bytes").to_number<double>(), 1e6);
  EXPECT_EQ(node.at("folder").as_string(), "yes");
  EXPECT_TRUE(found.at("bad").as_array().empty());
  EXPECT_TRUE(everything() == there) << "a file of the check was left";
  const Outcome bad = call("check --dir nowhere");
  EXPECT_EQ(bad.code, 5);
  EXPECT_THAT(bad.out, HasSubstr("folder: cannot write into nowhere, expected that it can\n0 of 1 node is good\n"));
}

TEST(SlurmTime, IsReadAsSlurmReadsIt) {
  const std::map<std::string, long> seconds{{"90", 5400},     {"1:30", 90},      {"2:00:00", 7200},
                                            {"1-12", 129600}, {"1-0:30", 88200}, {"1-00:00:10", 86410},
                                            {"0", 0},         {"UNLIMITED", 0}};
  for (const auto& [limit, expected] : seconds) EXPECT_EQ(slurm_seconds(limit), expected) << limit;
  for (const char* wrong : {"", "soon", "1:2:3:4", "1-", "-1", "1:", ":1", "1h", "1.5"})
    EXPECT_FALSE(slurm_seconds(wrong)) << wrong;
  EXPECT_EQ(slurm_time(59), "00:01:00");
  EXPECT_EQ(slurm_time(3601), "01:01:00");
  EXPECT_EQ(slurm_time(2 * 86400 + 3600), "2-01:00:00");
}

}  // namespace
}  // namespace lorashard::launch
