// The program as a whole: its help, what it says about files, and that a planned run and the run itself agree.
#include "core/option_table.hpp"
#include "tests/launch/whole_runs.hpp"

namespace lorashard::launch {
namespace {

using testing::AllOf;
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
  EXPECT_THAT(call("info run/model.h5").out,
              AllOf(HasSubstr("2 layers, width 16, 2 heads"), HasSubstr("all 28 tensors agree")));
  EXPECT_THAT(call("info run/checkpoints/step-00000003.h5").out, HasSubstr("method full, 3 steps done"));
  EXPECT_THAT(call("info run").out, HasSubstr("adapter.method = full"));
  EXPECT_THAT(call("info --table run run").out, HasSubstr("trained parameters"));
  EXPECT_THAT(call("info --schedule --mesh.pipeline 2 --microbatches 3").out, HasSubstr("stage 1 .  F0"));
}

TEST_F(WholeProgram, InfoSaysWhatAnAdapterIs) {
  ASSERT_EQ(call("train --config job.ini --adapter.method full").code, 0);
  std::filesystem::rename(at("run/model.h5"), at("base.h5"));
  const std::string base = call("info base.h5").out, digest = base.substr(base.find("digest ") + 7, 32);
  const std::string job = "--config job.ini --model.base base.h5 --adapter.targets q,v,up --adapter.rank.up 3 ";
  ASSERT_EQ(call("train --run.dir lora " + job).code, 0);
  ASSERT_EQ(call("export --from lora/adapter.h5 --to peft").code, 0);
  EXPECT_THAT(call("info lora/adapter.h5 --base base.h5").out,
              AllOf(HasSubstr("  attention.qkv.q: rank 8, alpha 16, layers 0-1\n"),
                    HasSubstr("  mlp.up: rank 3, alpha 16, layers 0-1\n"), HasSubstr("all 42 tensors agree"),
                    HasSubstr("  base " + digest), HasSubstr("  belongs to base.h5\n")));
  EXPECT_THAT(call("info peft --base base.h5").out,
              AllOf(HasSubstr("  attn.c_attn: rank 16, alpha 32, layers 0-1\n"),
                    HasSubstr("8 tensors, in pairs; their digests agree"), HasSubstr("  base " + digest),
                    HasSubstr("  belongs to base.h5\n")));
  EXPECT_THAT(call("info peft/adapter_model.safetensors").out,
              AllOf(HasSubstr("  'base_model.model.transformer.h.1.mlp.c_fc.lora_A.weight': 3x16, F32\n"),
                    HasSubstr("8 tensors, ")));
}

// Words for the ids of a model that was hardly trained; whichever it says last would have ended it.
TEST_F(WholeProgram, CompletionsStopAtAnyOfTheModelsEnds) {
  ASSERT_EQ(call("train --config job.ini --adapter.method full").code, 0);
  std::string vocabulary;
  for (int id = 0; id < 257; ++id)
    vocabulary += (id == 0 ? "\"w" : ",\"w") + std::to_string(id) + ".\":" + std::to_string(id);
  std::filesystem::create_directory(at("words"));
  write_file(at("words/tokenizer.json"), R"({"added_tokens":[{"id":65,"content":"w65."}],"decoder":{"type":"Fuse"},
      "model":{"type":"BPE","merges":[],"vocab":{)" +
                                             vocabulary + "}}}");
  const auto generate = [&](const std::string& ends) {
    write_file(at("words/generation_config.json"), "{\"eos_token_id\":" + ends + "}");
    const Outcome made =
        call("generate --config job.ini --model.base run/model.h5 --vocab words --prompt w65. --tokens 9");
    EXPECT_EQ(made.code, 0) << made.err;
    return made.out;
  };
  const std::string whole = generate("[256]");
  const std::size_t last = whole.rfind('w');
  const std::string word = whole.substr(last, whole.rfind('.') + 1 - last), id = word.substr(1, word.size() - 2);
  EXPECT_EQ(generate("[256," + id + "]"), whole.substr(0, whole.find(word)) + "\n");
  EXPECT_EQ(generate(id), whole.substr(0, whole.find(word)) + "\n");
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
