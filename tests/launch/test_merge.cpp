// merge and unmerge as a user calls them: what comes back, what is said, and what is refused.
#include <gmock/gmock.h>

#include <regex>

#include "tests/launch/program.hpp"

namespace lorashard::launch {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class MergeProgram : public Program {
 protected:
  void SetUp() override {
    write_file(at("text.txt"), some_text(30000));
    write_file(at("job.ini"), std::string(kTinyJob) + "[optimizer]\nlr = 0.03\n[adapter]\ntargets = qkv,o,up,down\n");
    expect_done("tokenize --from text.txt --to train.h5");
    expect_done("tokenize --from text.txt --to rows.h5");
    expect_done("train --config job.ini --adapter.method full --run.dir made");
    std::filesystem::rename(at("made/model.h5"), at("base.h5"));
    expect_done("train --config job.ini --model.base base.h5");
    std::filesystem::rename(at("run/adapter.h5"), at("adapter.h5"));
  }

  std::string expect_done(const std::string& arguments, const std::string& before = "") const {
    const Outcome outcome = call(arguments, before);
    EXPECT_EQ(outcome.code, 0) << arguments << "\n" << outcome.err;
    return outcome.out;
  }

  void expect_refused(const std::string& arguments, int code, const testing::Matcher<const std::string&>& message,
                      const std::string& before = "") {
    SCOPED_TRACE(arguments);
    const auto there = everything();
    const Outcome outcome = call(arguments, before);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_EQ(outcome.error_lines(), 1) << outcome.err;
    EXPECT_THAT(outcome.err, message);
    EXPECT_TRUE(everything() == there) << "a file was made or changed";
  }

  const std::string merge_ = "merge --config job.ini --model.base base.h5 --adapter adapter.h5 ";
};

TEST_F(MergeProgram, ThereAndBackOnAnyRanks) {
  const std::string out = expect_done(merge_ + "--to merged.h5 --residual residual.h5 --rows rows.h5 --time 2");
  EXPECT_THAT(out, AllOf(HasSubstr("adapter.h5 merged into 8 matrices of base.h5 as fp32"), HasSubstr("largest error"),
                         HasSubstr("rows.h5: largest change of a logit"), HasSubstr("merged.h5: "),
                         HasSubstr("residual.h5: "), HasSubstr("medians of 2 in turns")));
  EXPECT_THAT(expect_done("info merged.h5"), HasSubstr("merged from base "));
  for (const int ranks : {1, 2}) {
    const std::string before = ranks > 1 ? mpirun(ranks) : "";
    if (ranks > 1) {
      expect_done(merge_ + "--to together.h5 --mesh.tensor 2", before);
      EXPECT_TRUE(content_of(at("together.h5")) == content_of(at("merged.h5")));
    }
    expect_done("unmerge --from merged.h5 --residual residual.h5 --to back.h5", before);
    EXPECT_TRUE(content_of(at("back.h5")) == content_of(at("base.h5")));
    expect_done("unmerge --from merged.h5 --base base.h5 --to back2.h5", before);
    EXPECT_TRUE(content_of(at("back2.h5")) == content_of(at("base.h5")));
  }
}

// A merged file is a base like any other: its loss is the adapter's, and it can be merged into again.
TEST_F(MergeProgram, IsABaseOfItsOwn) {
  const std::string out = expect_done(merge_ + "--to merged.h5 --rows rows.h5");
  std::smatch found;
  ASSERT_TRUE(std::regex_search(out, found, std::regex("mean loss ([0-9.]+) beside the base, ([0-9.]+) merged")))
      << out;
  const double beside = std::stod(found[1]), merged = std::stod(found[2]);
  EXPECT_NEAR(beside, merged, 2e-5 * beside);
  expect_done("train --config job.ini --model.base merged.h5 --run.dir again");
  std::filesystem::rename(at("again/adapter.h5"), at("second.h5"));
  const std::string second = "merge --config job.ini --model.base merged.h5 --adapter second.h5 --to twice.h5";
  expect_done(second);
  expect_done("unmerge --from twice.h5 --base merged.h5 --to once.h5");
  const std::string info = expect_done("info merged.h5");  // of what it was merged from, the copy cannot know
  EXPECT_THAT(expect_done("info once.h5"), HasSubstr(info.substr(info.find("digest "), 39)));
  expect_refused("merge --config job.ini --model.base merged.h5 --adapter adapter.h5 --to x.h5", 2,
                 AllOf(HasSubstr("base_digest: found"), HasSubstr("expected"), HasSubstr("merged.h5")));
}

TEST_F(MergeProgram, RefusesWhatDoesNotBelongTogether) {
  expect_done(merge_ + "--to merged.h5 --residual residual.h5");
  expect_done("train --config job.ini --adapter.method full --run.dir made2 --adapter.seed 2");
  std::filesystem::rename(at("made2/model.h5"), at("other.h5"));
  expect_refused("merge --config job.ini --model.base other.h5 --adapter adapter.h5 --to x.h5", 2,
                 AllOf(HasSubstr("adapter.h5: base_digest: found"), HasSubstr("other.h5")));
  expect_refused("unmerge --from merged.h5 --base other.h5 --to x.h5", 2,
                 AllOf(HasSubstr("other.h5: digest: found"), HasSubstr("expected"), HasSubstr("merged.h5")));
  expect_refused("unmerge --from base.h5 --base base.h5 --to x.h5", 2, HasSubstr("base.h5: merged_base: missing"));
  expect_refused("unmerge --from merged.h5 --residual base.h5 --to x.h5", 6, HasSubstr("base.h5: format"));
  expect_refused("unmerge --from merged.h5 --residual nowhere.h5 --to x.h5", 6, HasSubstr("nowhere.h5"));
  // A residual of the same base but another adapter.
  expect_done("train --config job.ini --model.base base.h5 --run.dir second --adapter.seed 5");
  std::filesystem::rename(at("second/adapter.h5"), at("second.h5"));
  expect_done(
      "merge --config job.ini --model.base base.h5 --adapter second.h5 --to merged2.h5 --residual residual2.h5");
  expect_refused("unmerge --from merged.h5 --residual residual2.h5 --to x.h5", 2,
                 HasSubstr("residual2.h5: merged: found"));
}

TEST_F(MergeProgram, RefusesBadInput) {
  expect_refused("merge --config job.ini --model.base base.h5 --to x.h5", 2, HasSubstr("--adapter is missing"));
  expect_refused("merge --config job.ini --adapter adapter.h5 --to x.h5", 2, HasSubstr("model.base: missing"));
  expect_refused(merge_, 2, HasSubstr("neither --to nor --rows"));
  expect_refused(merge_ + "--rows rows.h5 --residual r.h5", 2, HasSubstr("--residual: found without --to"));
  expect_refused(merge_ + "--to x.h5 --time 2", 2, HasSubstr("--time: found without --rows"));
  expect_refused(merge_ + "--rows rows.h5 --time 0", 2, HasSubstr("--time: found '0'"));
  expect_refused(merge_ + "--to base.h5", 2, HasSubstr("--to: found base.h5"));
  expect_refused(merge_ + "--to ./adapter.h5", 2, HasSubstr("--to: found ./adapter.h5"));
  expect_refused(merge_ + "--to x.h5 --residual x.h5", 2, HasSubstr("--residual: found x.h5"));
  expect_refused(merge_ + "--to x.h5 --adapter.method full", 2, HasSubstr("adapter.method"));
  expect_refused(merge_ + "--to x.h5 --device.kind meta", 2, HasSubstr("device.kind"));
  expect_refused(merge_ + "--to nowhere/x.h5", 6, HasSubstr("nowhere/x.h5"));
  expect_refused(merge_ + "--to x.h5 --rows nowhere.h5", 6, HasSubstr("nowhere.h5"));
  expect_refused("merge --config job.ini --model.base base.h5 --adapter base.h5 --to x.h5", 6, HasSubstr("base.h5"));
  expect_refused("unmerge --from base.h5 --to x.h5", 2, HasSubstr("neither --base and --residual"));
  expect_refused("unmerge --from base.h5 --base base.h5 --to base.h5", 2, HasSubstr("--to: found base.h5"));
  // Some of its matrices train whole: the adapters are not all that it learned.
  expect_done("train --config job.ini --model.base base.h5 --run.dir mixed --adapter.rank.o full");
  std::filesystem::rename(at("mixed/adapter.h5"), at("mixed.h5"));
  expect_refused("merge --config job.ini --model.base base.h5 --adapter mixed.h5 --to x.h5", 2,
                 AllOf(HasSubstr("mixed.h5: found layers."), HasSubstr("expected adapters alone")));
}

// A file that may not grow as large as it must: nothing is left under any name.
TEST_F(MergeProgram, AnInterruptedMergeLeavesNothing) {
  expect_refused(merge_ + "--to merged.h5", 6, HasSubstr("merged.h5"), "ulimit -f 8;");
  expect_done(merge_ + "--to merged.h5 --residual residual.h5");
  std::filesystem::copy(at("base.h5"), at("kept.h5"));
  expect_refused("unmerge --from merged.h5 --residual residual.h5 --to back.h5", 6, HasSubstr("back.h5"),
                 "ulimit -f 8;");
  expect_refused(merge_ + "--to nowhere/m.h5 --residual r.h5", 6, HasSubstr("nowhere/m.h5"));
}

}  // namespace
}  // namespace lorashard::launch
