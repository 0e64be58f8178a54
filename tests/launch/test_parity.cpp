// lorashard parity as a user calls it.
#include <gmock/gmock.h>

#include <boost/json.hpp>

#include "tests/launch/program.hpp"

namespace lorashard::launch {
namespace {

using boost::json::object;
using testing::AllOf;
using testing::HasSubstr;

class Certificate : public Program {
 protected:
  void SetUp() override {
    write_file(at("text.txt"), some_text(3000));
    write_file(at("job.ini"), kTinyJob);
    ASSERT_EQ(call("tokenize --from text.txt --to train.h5").code, 0) << content_of(at(".err"));
  }

  object json_of(const std::string& folder) const {
    return boost::json::parse(content_of(at(folder + "/parity.json"))).as_object();
  }

  void expect_refused(const std::string& arguments, const testing::Matcher<const std::string&>& message) {
    const auto there = everything();
    const Outcome outcome = call("parity " + arguments);
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_EQ(outcome.error_lines(), 1) << outcome.err;
    EXPECT_THAT(outcome.err, message);
    EXPECT_TRUE(everything() == there);
  }
};

TEST_F(Certificate, OfTheJobItself) {
  const Outcome outcome = call("parity --config job.ini --mesh.tensor 2", mpirun(2));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, content_of(at("run/parity.txt")));
  for (const char* words : {"the job's own", "2x1x1 (tensor x pipeline x data) against one rank", "train.h5", "fp32",
                            "host", "2 ranks on 1 host", "the mesh computes what one rank computes", "share"})
    EXPECT_THAT(outcome.out, HasSubstr(words));
  const object json = json_of("run");
  EXPECT_TRUE(json.at("holds").as_bool());
  EXPECT_FALSE(json.at("shrunken").as_bool());
  EXPECT_EQ(json.at("failures"), 0);
  EXPECT_EQ(json.at("ranks"), 2);
  EXPECT_EQ(json.at("steps"), 2);
  EXPECT_EQ(json.at("relative_errors").as_array().size(), 2u);
  // 8 trained tensors (A and B of q and v in two layers): at the start, copied, twice as gradients, in the end, copied;
  // and three figures of each step.
  EXPECT_EQ(json.at("comparisons").as_array().size(), 8u * 6 + 2 * 3);
}

TEST_F(Certificate, OfASmallJobOfTheSameStructure) {
  const Outcome outcome = call(
      "parity --model.layers 96 --model.width 12288 --model.heads 96 --model.vocab 50257 --model.context 2048 "
      "--train.batch 16 --train.microbatch 1 --train.precision bf16 --adapter.dropout 0.1 --device.threads 1 --steps 1 "
      "--mesh.tensor 2 --mesh.sequence_parallel yes --to certificate",
      mpirun(2));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("a small one of the job's structure"), HasSubstr("layers 2 of 96"),
                                 HasSubstr("random tokens"), HasSubstr("sequence parallel"), HasSubstr("bf16")));
  const object json = json_of("certificate");
  EXPECT_TRUE(json.at("shrunken").as_bool());
  EXPECT_EQ(json.at("steps"), 1);
  EXPECT_EQ(json.at("layers"), 2);
  EXPECT_FALSE(json.at("perturbed").as_array().empty());
  EXPECT_THAT(std::string(json.at("run").as_string()), HasSubstr("adapter.dropout = 0.1"));
}

// mpirun starts two programs in one job: the second rank's seed is its own.
TEST_F(Certificate, NamesRanksThatDiffer) {
  const std::string job = "parity --config job.ini --adapter.seed ";
  const Outcome outcome = call(job + "1 : -np 1 " + program() + " " + job + "2", mpirun(1));
  EXPECT_EQ(outcome.code, 4) << outcome.err;
  EXPECT_THAT(
      outcome.out,
      HasSubstr("first the copies of layers.0.attention.qkv.q.lora_a before step 0: rank 1 holds another copy"));
  const object json = json_of("run");
  EXPECT_FALSE(json.at("holds").as_bool());
  EXPECT_GT(json.at("failures").as_int64(), 0);
}

TEST_F(Certificate, RefusesWhatIsWrong) {
  expect_refused("--config job.ini --step 3", AllOf(HasSubstr("'--step'"), HasSubstr("'--steps'")));
  expect_refused("--config job.ini --steps 0", HasSubstr("--steps: found '0', expected a whole number of at least 1"));
  expect_refused("--config job.ini --device.kind meta", HasSubstr("device.kind: found meta"));
  expect_refused("--config job.ini --full --data.train=", HasSubstr("data.train: missing"));
  expect_refused("--config nowhere.ini", HasSubstr("nowhere.ini"));
}

}  // namespace
}  // namespace lorashard::launch
