// The program as a whole: its help, what it says about files, and that a planned run and the run itself agree.
#include <gmock/gmock.h>

#include <boost/json.hpp>

#include "core/option_table.hpp"
#include "tests/launch/program.hpp"

namespace lorashard::launch {
namespace {

using testing::HasSubstr;

class WholeProgram : public Program {
 protected:
  void SetUp() override {
    write_file(at("text.txt"), some_text(3000));
    write_file(at("job.ini"), kTinyJob);
    ASSERT_EQ(call("tokenize --from text.txt --to train.h5").code, 0) << content_of(at(".err"));
  }

  static boost::json::array ranks_of(const std::string& summary) {
    return boost::json::parse(summary).at("per_rank").as_array();
  }

  // Every rank's peaks, by category and together, to the byte; work and traffic of a step come with them.
  void expect_plan_agrees(const std::string& keys, int ranks) {
    SCOPED_TRACE(keys);
    const std::string job = "train --config job.ini --data.valid train.h5 " + keys;
    const Outcome plan = call(job + " --device.kind meta --json --ranks " + std::to_string(ranks));
    const Outcome run = call(job, ranks > 1 ? mpirun(ranks) : "");
    ASSERT_EQ(plan.code, 0) << plan.err;
    ASSERT_EQ(run.code, 0) << run.err;
    const boost::json::array planned = ranks_of(plan.out), found = ranks_of(content_of(at("run/summary.json")));
    ASSERT_EQ(planned.size(), static_cast<std::size_t>(ranks));
    ASSERT_EQ(found.size(), planned.size());
    for (std::size_t rank = 0; rank < planned.size(); ++rank) {
      EXPECT_EQ(planned[rank].at("memory"), found[rank].at("memory")) << "rank " << rank;
      EXPECT_EQ(planned[rank].at("peak_bytes"), found[rank].at("peak_bytes")) << "rank " << rank;
    }
    std::filesystem::remove_all(at("run"));
  }
};

TEST_F(WholeProgram, HelpComesFromTheTableOfKeys) {
  const std::string help = call("train --help").out;
  for (const core::Option& option : core::option_table()) EXPECT_THAT(help, HasSubstr(option.shown));
  for (const char* subcommand : {"train", "tokenize", "import", "info", "bench"}) {
    EXPECT_THAT(call("--help").out, HasSubstr(subcommand));
    EXPECT_THAT(call(std::string(subcommand) + " --help").out, HasSubstr("usage: "));
  }
  EXPECT_THAT(call("--version").out, testing::MatchesRegex("lorashard [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

TEST_F(WholeProgram, InfoSaysWhatAFileIs) {
  ASSERT_EQ(call("train --config job.ini --adapter.method full").code, 0);
  EXPECT_THAT(call("info train.h5").out, HasSubstr("tokenizer byte, vocabulary 257"));
  EXPECT_THAT(call("info run/model.h5").out, HasSubstr("2 layers, width 16, 2 heads"));
  EXPECT_THAT(call("info run/checkpoints/step-00000003.h5").out, HasSubstr("method full, 3 steps done"));
  EXPECT_THAT(call("info run").out, HasSubstr("adapter.method = full"));
  EXPECT_THAT(call("info --table run run").out, HasSubstr("trained parameters"));
  EXPECT_THAT(call("info --schedule --mesh.pipeline 2 --microbatches 3").out, HasSubstr("stage 1 .  F0"));
}

TEST_F(WholeProgram, PlanAgreesWithRun) {
  expect_plan_agrees("--adapter.targets all", 1);
  expect_plan_agrees("--adapter.targets q,v --adapter.layers 1 --train.recompute full", 1);
  expect_plan_agrees("--adapter.method full --train.precision bf16", 1);
  expect_plan_agrees("--adapter.targets all --mesh.tensor 2 --mesh.sequence_parallel yes", 2);
  expect_plan_agrees("--adapter.method full --mesh.pipeline 2 --train.microbatch 1", 2);
  expect_plan_agrees("--adapter.method full", 2);
}

}  // namespace
}  // namespace lorashard::launch
