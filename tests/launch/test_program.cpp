// The program as a whole: its help, what it says about files, and that a planned run and the run itself agree.
#include "core/option_table.hpp"
#include "tests/launch/whole_runs.hpp"

namespace lorashard::launch {
namespace {

using testing::HasSubstr;

class WholeProgram : public WholeRuns {
 protected:
  void SetUp() override {
    write_file(at("text.txt"), some_text(3000));
    write_file(at("job.ini"), kTinyJob);
    ASSERT_EQ(call("tokenize --from text.txt --to train.h5").code, 0) << content_of(at(".err"));
  }

  void expect_plan_is_run(const std::string& keys, int ranks) {
    expect_plan_agrees("train --config job.ini --data.valid train.h5 " + keys, "", "", ranks);
  }
};

TEST_F(WholeProgram, HelpComesFromTheTableOfKeys) {
  const std::string help = call("train --help").out;
  for (const core::Option& option : core::option_table()) EXPECT_THAT(help, HasSubstr(option.shown));
  for (const char* subcommand : {"train", "tokenize", "import", "info", "bench"}) {
    EXPECT_THAT(call("--help").out, HasSubstr(subcommand));
    EXPECT_THAT(call(std::string(subcommand) + " --help").out, HasSubstr("usage: "));
  }
  EXPECT_THAT(call("--version").out, testing::MatchesRegex("lorashard [0-9]+\\.[0-9]+\\.[0-9]+, .*CUDA.*\n"));
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
  expect_plan_is_run("--adapter.targets all", 1);
  expect_plan_is_run("--adapter.targets q,v --adapter.layers 1 --train.recompute full", 1);
  expect_plan_is_run("--adapter.method full --train.precision bf16", 1);
  expect_plan_is_run("--adapter.targets all --mesh.tensor 2 --mesh.sequence_parallel yes", 2);
  expect_plan_is_run("--adapter.method full --mesh.pipeline 2 --train.microbatch 1", 2);
  expect_plan_is_run("--adapter.method full", 2);
}

}  // namespace
}  // namespace lorashard::launch
