// lorashard evaluate, as a user calls it.
#include <gmock/gmock.h>

#include <boost/json.hpp>

#include "tests/launch/program.hpp"

namespace lorashard::launch {
namespace {

using testing::HasSubstr;

class Evaluate : public Program {
 protected:
  void SetUp() override {
    write_file(at("pairs.txt"), "one || a b c d\r\ntwo||A B C D\none||x\n");
    write_file(at("outputs.txt"), "a b c d\n\n");
  }

  void expect_refused(const std::string& arguments, const std::string& message) {
    const auto there = everything();
    const Outcome outcome = call("evaluate " + arguments);
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_EQ(outcome.error_lines(), 1) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_EQ(outcome.out, "");
    EXPECT_TRUE(everything() == there);
  }
};

TEST_F(Evaluate, PrintsATableOrOneObject) {
  const Outcome table = call("evaluate --outputs outputs.txt --references pairs.txt");
  EXPECT_EQ(table.code, 0) << table.err;
  // The longest common subsequence is all of the first text and nothing of the second.
  EXPECT_THAT(table.out, testing::ContainsRegex("ROUGE-L +0\\.5000\n"));
  EXPECT_THAT(table.out, testing::ContainsRegex("texts +2\nreferences +3\n"));
  const Outcome json = call("evaluate --json --outputs outputs.txt --references pairs.txt");
  EXPECT_EQ(json.code, 0) << json.err;
  const boost::json::object scores = boost::json::parse(json.out).as_object();
  EXPECT_EQ(scores.at("rouge_l").to_number<double>(), 0.5);
  EXPECT_EQ(scores.at("texts").as_int64(), 2);
  EXPECT_EQ(scores.at("references").as_int64(), 3);
  for (const char* key : {"bleu", "nist", "cider"}) EXPECT_TRUE(scores.at(key).is_number()) << key;
}

TEST_F(Evaluate, RefusesWhatDoesNotBelongTogether) {
  expect_refused("--outputs outputs.txt", "--references is missing");
  expect_refused("--references pairs.txt", "--outputs is missing");
  expect_refused("--outputs nowhere.txt --references pairs.txt", "nowhere.txt: cannot read");
  expect_refused("--outputs outputs.txt --references outputs.txt",
                 "outputs.txt:1: found 'a b c d', expected prompt||completion");
  write_file(at("more.txt"), "a\nb\nc\n");
  expect_refused("--outputs more.txt --references pairs.txt",
                 "more.txt: found 3 lines, expected 2, one for each distinct prompt of pairs.txt");
  write_file(at("fewer.txt"), "a");
  expect_refused("--outputs fewer.txt --references pairs.txt", "fewer.txt: found 1 lines, expected 2");
  write_file(at("empty.txt"), "");
  expect_refused("--outputs empty.txt --references empty.txt", "empty.txt: found no line, expected prompt||completion");
  write_file(at("latin1.txt"), "a\ncaf\xe9\n");
  expect_refused("--outputs latin1.txt --references pairs.txt", "latin1.txt:2: byte 3: found no UTF-8");
}

}  // namespace
}  // namespace lorashard::launch
