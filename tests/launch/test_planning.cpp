// plan, compare and rehearsals as a user calls them.
#include <iterator>
#include <sstream>
#include <vector>

#include "tests/launch/whole_runs.hpp"

namespace lorashard::launch {
namespace {

using boost::json::object;
using testing::HasSubstr;

class Planning : public WholeRuns {
 protected:
  void SetUp() override { write_file(at("job.ini"), kTinyJob); }
  object json_of(const std::string& arguments) const {
    const Outcome outcome = call(arguments + " --json");
    EXPECT_EQ(outcome.err, "");
    return boost::json::parse(outcome.out).as_object();
  }
};

const std::string kGpt3 =
    "--model.layers 96 --model.width 12288 --model.heads 96 --model.vocab 50257 --model.context 2048 "
    "--data.length 2048 --train.batch 16 --train.microbatch 1 --train.precision bf16 ";

TEST_F(Planning, SaysThatAJobFits) {
  const Outcome page = call("plan --config job.ini --device.hardware h100 --ranks 2");
  EXPECT_EQ(page.code, 0) << page.err;
  for (const char* words : {"memory a rank, peak", "time of a step", "tokens/s", "fits "})
    EXPECT_THAT(page.out, HasSubstr(words));
  const object plan = json_of("plan --config job.ini --ranks 2");
  EXPECT_TRUE(plan.at("fits").as_bool());
  EXPECT_EQ(plan.at("ranks").as_int64(), 2);
  for (const char* key : {"peak_bytes_per_rank", "step_s", "tokens_per_s", "tokens_per_s_per_gpu",
                          "model_tflops_per_gpu", "hardware_tflops_per_gpu", "gpu_hours", "checkpoint_bytes"})
    EXPECT_GT(plan.at(key).to_number<double>(), 0) << key;
  double parts = 0;
  for (const auto& [name, seconds] : plan.at("time").as_object())
    if (name != "recomputed" && name != "hidden") parts += seconds.to_number<double>();
  const double step_s = plan.at("step_s").to_number<double>();
  EXPECT_NEAR(parts, step_s, 1e-9 * step_s);
}

TEST_F(Planning, TracesTheStep) {
  const std::string job = "plan --config job.ini --mesh.pipeline 2 --train.microbatch 1 --trace step.json";
  const double step_us = 1e6 * json_of(job).at("step_s").to_number<double>();
  const boost::json::value trace = boost::json::parse(content_of(at("step.json")));
  std::map<std::string, int> spans;
  double last_us = 0;
  for (const boost::json::value& event : trace.at("traceEvents").as_array()) {
    if (event.at("ph").as_string() != "X") continue;
    ++spans[std::string(event.at("name").as_string())];
    last_us = std::max(last_us, event.at("ts").to_number<double>() + event.at("dur").to_number<double>());
  }
  // Two microbatches on two stages.
  for (const char* work : {"forward 0", "forward 1", "backward 0", "backward 1", "reduce", "update"})
    EXPECT_EQ(spans[work], 2) << work;
  EXPECT_NEAR(last_us, step_us, 1e-9 * step_us);
  const Outcome refused = call("plan --config job.ini --trace no/folder/step.json");
  EXPECT_EQ(refused.code, 6);
  EXPECT_THAT(refused.err, HasSubstr("no/folder/step.json: cannot be written"));
}

// The lanes and works of a run's trace are called what the plan's are, as often a step.
TEST_F(Planning, TracesARun) {
  write_file(at("text.txt"), some_text(3000));
  ASSERT_EQ(call("tokenize --from text.txt --to train.h5").code, 0);
  const std::string job = " --config job.ini --train.microbatch 1 --train.steps 5 --mesh.pipeline 2 ";
  ASSERT_EQ(call("plan" + job + "--ranks 4 --trace step.json --device.hardware h100").code, 0);
  const Outcome run = call("train" + job + "--run.trace 3", mpirun(4));
  ASSERT_EQ(run.code, 0) << run.err;
  const auto works = [&](const std::string& file, int steps) {
    std::map<std::string, int> found;  // by lane and name
    std::map<std::int64_t, std::string> lanes;
    std::map<std::string, double> end_us;
    const boost::json::value trace = boost::json::parse(content_of(at(file)));
    for (const boost::json::value& event : trace.at("traceEvents").as_array()) {
      std::string& lane = lanes[event.at("tid").as_int64()];
      if (event.at("ph").as_string() == "M") {
        lane = std::string(event.at("args").at("name").as_string());
        continue;
      }
      ++found[lane + ": " + std::string(event.at("name").as_string())];
      EXPECT_GE(event.at("ts").to_number<double>(), end_us[lane]) << lane;
      EXPECT_GE(event.at("dur").to_number<double>(), 0) << lane;
      end_us[lane] = event.at("ts").to_number<double>() + event.at("dur").to_number<double>();
    }
    for (auto& [name, count] : found) {
      EXPECT_EQ(count % steps, 0) << name;
      count /= steps;
    }
    return found;
  };
  EXPECT_EQ(works("run/trace.json", 3), works("step.json", 1));
}

// What a run took stands beside what was planned, at its end and in info.
TEST_F(Planning, SetsARunAgainstItsPlan) {
  write_file(at("text.txt"), some_text(3000));
  ASSERT_EQ(call("tokenize --from text.txt --to train.h5").code, 0);
  const Outcome run = call("train --config job.ini --device.hardware h100 --mesh.tensor 2", mpirun(2));
  ASSERT_EQ(run.code, 0) << run.err;
  const Outcome info = call("info run");
  const std::string table = run.out.substr(run.out.find("against the plan"));
  EXPECT_THAT(info.out, HasSubstr(table.substr(0, table.find("result"))));
  const boost::json::value figures = boost::json::parse(content_of(at("run/summary.json"))).at("against_plan");
  for (const char* side : {"planned", "observed"}) {
    double parts_s = 0;
    for (const boost::json::value& row : figures.at("time").as_array()) parts_s += row.at(side).to_number<double>();
    const double step_s = figures.at("step_s").at(side).to_number<double>();
    EXPECT_GT(step_s, 0);
    EXPECT_NEAR(parts_s, step_s, 1e-6 * step_s) << side;
  }
}

// The clock of a host is measured there; that it tells the time is nothing for a test on a shared machine.
TEST_F(Planning, MeasuresThisHost) {
  ASSERT_EQ(call("bench --write-hardware host.ini --device.threads 1", mpirun(2)).code, 0);
  const std::string job = "plan --config job.ini --device.hardware host.ini --device.threads ";
  const double one_s = json_of(job + "1").at("step_s").to_number<double>();
  const double two_s = json_of(job + "2").at("step_s").to_number<double>();
  EXPECT_GT(one_s, two_s);  // a second thread has rates of its own
  EXPECT_GT(two_s, 0.5 * one_s);  // but not a second latency
  const Outcome alone = call("bench --write-hardware other.ini");
  EXPECT_EQ(alone.code, 2);
  EXPECT_THAT(alone.err, HasSubstr("--write-hardware: found 1 ranks"));
  EXPECT_FALSE(std::filesystem::exists(at("other.ini")));
}

TEST_F(Planning, SaysWhatIsInTheWay) {
  const std::string job = "plan " + kGpt3 + "--mesh.tensor 2 --device.hardware a100-80gb";
  const Outcome page = call(job);
  EXPECT_EQ(page.code, 3);
  EXPECT_THAT(page.out, HasSubstr("does not fit: stage 0 needs"));
  EXPECT_THAT(page.out, HasSubstr("in the way: base"));
  EXPECT_THAT(page.out, HasSubstr("would fit   mesh."));
  EXPECT_FALSE(json_of(job).at("fits").as_bool());
}

// A fact of the method: 350 GB of frozen weights in 16 bits need more than 11 and at most 16 cards of 32 GB, on which
// training every weight does not fit.
TEST_F(Planning, SearchFindsFewGpusForLora) {
  const object found = json_of("plan " + kGpt3 + "--search --most 16 --device.hardware v100-32gb --train.batch 16");
  const object& smallest = found.at("smallest").as_object();
  EXPECT_TRUE(smallest.at("full").is_null());
  const object& lora = smallest.at("lora").as_object();
  EXPECT_TRUE(lora.at("fits").as_bool());
  EXPECT_GE(lora.at("ranks").as_int64(), 11);
  EXPECT_LE(lora.at("ranks").as_int64(), 16);
  EXPECT_TRUE(lora.at("mesh").as_object().contains("pipeline"));
  // More ranks, less time.
  const auto& front = found.at("front").at("lora").as_array();
  ASSERT_GE(front.size(), 2u);
  EXPECT_EQ(front[0].at("ranks"), lora.at("ranks"));
  EXPECT_EQ(front[0].at("step_s").to_number<double>(), lora.at("step_s").to_number<double>());
  for (std::size_t i = 1; i < front.size(); ++i) {
    EXPECT_GT(front[i].at("ranks").as_int64(), front[i - 1].at("ranks").as_int64());
    EXPECT_LT(front[i].at("step_s").to_number<double>(), front[i - 1].at("step_s").to_number<double>());
  }
}

// What a report shows is what its page carries, and what lies beside it (test_report.cpp has the rest).
TEST_F(Planning, WritesReports) {
  const auto expect_page = [&](const std::string& name, const std::string& kind) {
    const std::string data = content_of(at(name + ".json")), page = content_of(at(name + ".html"));
    EXPECT_EQ(boost::json::parse(data).at("report").as_string(), kind);
    const std::size_t start = page.find("id=\"data\">") + 10;
    EXPECT_EQ(page.substr(start, page.find("</script>", start) - start) + "\n", data);
  };
  ASSERT_EQ(call("plan --config job.ini --ranks 2 --report plan.html").code, 0);
  expect_page("plan", "plan");
  ASSERT_EQ(call("plan --search --most 8 --config job.ini --report search.html").code, 0);
  expect_page("search", "search");
  ASSERT_EQ(call("compare --most 8 --config job.ini --report compare.html").code, 0);
  expect_page("compare", "compare");
  const Outcome refused = call("plan --config job.ini --report no/folder/plan.html");
  EXPECT_EQ(refused.code, 6);
  EXPECT_THAT(refused.err, HasSubstr("no/folder/plan.html: cannot be written"));
}

TEST_F(Planning, ComparesWhatIsPlanned) {
  const Outcome page = call("compare --config job.ini");
  EXPECT_EQ(page.code, 0) << page.err;
  for (const char* words : {"lora, smallest", "full, smallest", "storage of 100 models"})
    EXPECT_THAT(page.out, HasSubstr(words));
}

TEST_F(Planning, ComparesWhatIsRun) {
  write_file(at("text.txt"), some_text(3000));
  ASSERT_EQ(call("tokenize --from text.txt --to train.h5").code, 0);
  const Outcome page = call("compare --run --config job.ini --report both.html", mpirun(2));
  EXPECT_EQ(page.code, 0) << page.err;
  const std::string table = page.out.substr(page.out.rfind("\nrun "));
  EXPECT_THAT(table, HasSubstr("trained parameters"));
  // The row that was planned reads as the row that was measured.
  const auto cells = [&](const std::string& label) {
    const std::size_t at = table.find(label) + label.size();
    std::istringstream words(table.substr(at, table.find('\n', at) - at));
    return std::vector<std::string>(std::istream_iterator<std::string>(words), {});
  };
  EXPECT_EQ(cells("memory a rank, planned"), cells("memory a rank, together"));
  EXPECT_TRUE(std::filesystem::exists(at("run/lora/adapter.h5")));
  EXPECT_TRUE(std::filesystem::exists(at("run/full/model.h5")));
  const object both = boost::json::parse(content_of(at("both.json"))).as_object();
  const std::string summary = content_of(at("run/lora/summary.json"));
  EXPECT_EQ(both.at("run").at("lora").at("summary"), boost::json::parse(summary));
  EXPECT_THAT(content_of(at("run/lora/report.html")), HasSubstr("Planned and observed"));
}

TEST_F(Planning, RehearsesOnManyProcesses) {
  const Outcome page =
      call("train --device.kind meta --target cuda --mesh.tensor 2 --mesh.pipeline 3 " + kGpt3, mpirun(6));
  EXPECT_EQ(page.code, 0) << page.err;
  EXPECT_THAT(page.out, HasSubstr("6 processes entered the same verbs in the same order"));
}

TEST_F(Planning, RefusesInOneLine) {
  const Outcome no_card = call("plan --config job.ini --device.hardware b300");
  EXPECT_EQ(no_card.code, 2);
  EXPECT_EQ(no_card.error_lines(), 1);
  EXPECT_THAT(no_card.err,
              HasSubstr("device.hardware: found 'b300', expected a file; looked for configs/hardware/b300.ini"));
  const Outcome ranks = call("plan --config job.ini --ranks none");
  EXPECT_EQ(ranks.code, 2);
  EXPECT_EQ(ranks.err, "lorashard: command line: --ranks: found 'none', expected a number of ranks\n");
  const Outcome no_base = call("plan --model.base none.h5");
  EXPECT_EQ(no_base.code, 2);
  EXPECT_THAT(no_base.err, HasSubstr("model.base: found 'none.h5', which is not there; expected the file, or model.layers"));
  const Outcome never = call("compare " + kGpt3 + "--most 2");
  EXPECT_EQ(never.code, 3);
  EXPECT_THAT(never.err, HasSubstr("adapter.method = lora: does not fit on up to 2"));
}

}  // namespace
}  // namespace lorashard::launch
