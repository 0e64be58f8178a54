// The pages of a report hold what the program said: their figures, lengths and places are held against the data they
// carry, in a browser where there is one.
#include <functional>
#include <iostream>
#include <sstream>

#include "kernels/error.hpp"
#include "launch/report.hpp"
#include "tests/launch/whole_runs.hpp"

namespace lorashard::launch {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;
using testing::HasSubstr;
using testing::Not;

const std::string kCheck = "tests/launch/report_check.js";

// Of a size at which a search has several answers for both methods, within seconds.
const std::string kSearched =
    "--model.layers 24 --model.width 4096 --model.heads 32 --model.vocab 50257 --model.context 1024 --data.length 1024 "
    "--train.batch 16 --train.precision bf16 --device.hardware v100-32gb ";

std::string browser() {
  for (const char* name : {"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"})
    if (std::system(("command -v " + std::string(name) + " >/dev/null 2>&1").c_str()) == 0) return name;
  return "";
}

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  const std::size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what << " is not there";
  return at == std::string::npos ? text : text.replace(at, what.size(), with);
}

class Report : public WholeRuns {
 protected:
  void SetUp() override { write_file(at("job.ini"), kTinyJob); }

  object json_of(const std::string& arguments) const {
    const Outcome outcome = call(arguments + " --json");
    EXPECT_EQ(outcome.err, "");
    return boost::json::parse(outcome.out).as_object();
  }
  static object of_kind(const char* kind, object data) {
    data["report"] = kind;
    return data;
  }

  object plan_data() const {
    object plan = of_kind("plan", json_of("plan --config job.ini --ranks 4 --mesh.pipeline 2 --train.batch 12 "
                                          "--train.microbatch 1 --device.hardware h100"));
    for (value& rank : plan.at("memory").as_array())
      rank.as_object()["activation_parts"] = {{"scores & <softmax>", 3000}, {"layer/4~input", 4096}};
    return plan;
  }
  object search_data() const {
    object data = of_kind("search", json_of("plan --search --most 32 " + kSearched));
    data["hardware"] = "V100-32GB";
    data["memory_bytes"] = data.at("front").at("lora").at(0).at("memory_bytes");
    return data;
  }
  object run_of(const std::string& directory) const {
    array lines;
    std::istringstream metrics(content_of(at(directory + "/metrics.jsonl")));
    for (std::string line; std::getline(metrics, line);) lines.push_back(boost::json::parse(line));
    return {{"summary", boost::json::parse(content_of(at(directory + "/summary.json")))}, {"metrics", lines}};
  }
  void tokenize() const {
    write_file(at("text.txt"), some_text(3000));
    ASSERT_EQ(call("tokenize --from text.txt --to train.h5").code, 0);
  }
  // Long enough for its curves to be smoothed.
  object run_data() const {
    tokenize();
    const Outcome ran =
        call("train --config job.ini --train.steps 220 --data.valid train.h5 --train.evaluate_every 60", mpirun(2));
    EXPECT_EQ(ran.code, 0) << ran.err;
    object data = of_kind("run", run_of("run"));
    data["name"] = "runs/<tiny> & 'more' 4";
    data.at("summary").as_object()["against_plan"] = {
        {"step_s", {{"planned", 0.00125}, {"observed", 0.0015}}},
        {"peak_bytes", {{"planned", 258000}, {"observed", 258000}}},
        {"time", array{{{"name", "products with the base"}, {"planned", 0.0004}, {"observed", 0.0005}}}},
        {"memory", array{{{"name", "base"}, {"planned", 43840}, {"observed", 43840}}}}};
    return data;
  }
  object compare_data() const {
    tokenize();
    const Outcome ran = call("compare --run --config job.ini --train.steps 50 --data.valid train.h5", mpirun(2));
    EXPECT_EQ(ran.code, 0) << ran.err;
    const object planned = json_of("compare --most 32 " + kSearched);
    return of_kind("compare", {{"hardware", "V100-32GB"},
                               {"memory_bytes", planned.begin()->value().at("memory_bytes")},
                               {"planned", planned},
                               {"front", search_data().at("front")},
                               {"run", {{"lora", run_of("run/lora")}, {"full", run_of("run/full")}}}});
  }

  // What the check in the page found. Fails where the browser has something to say.
  object verdict_on(const std::string& page, int width) const {
    write_file(at("page.html"), replaced(page, "</body>", "<script>" + content_of(kCheck) + "</script></body>"));
    const std::string command =
        "cd '" + folder_.string() + "' && timeout 100 " + browser() +
        " --headless --no-sandbox --disable-gpu --enable-logging=stderr --user-data-dir=profile" +
        " --window-size=" + std::to_string(width) + ",900 --dump-dom page.html >dom.html 2>log";
    EXPECT_EQ(std::system(command.c_str()), 0) << content_of(at("log"));
    EXPECT_THAT(content_of(at("log")), Not(HasSubstr("CONSOLE")));
    const std::string dom = content_of(at("dom.html")), mark = "json\" id=\"verdict\">";
    const std::size_t start = dom.rfind(mark);
    if (start == std::string::npos) {
      ADD_FAILURE() << "the check did not run to its end";
      return {{"faults", array{"none found"}}, {"counts", object()}};
    }
    const std::size_t from = start + mark.size();
    return boost::json::parse(dom.substr(from, dom.find("</script>", from) - from)).as_object();
  }

  // `shown`: what there must be some of.
  void expect_holds(const object& data, const std::vector<const char*>& shown) const {
    const std::string page = report_page(data);
    for (const int width : {1200, 500}) {
      const object verdict = verdict_on(page, width);
      EXPECT_EQ(verdict.at("faults").as_array(), array()) << "in a window " << width << " wide";
      for (const char* kind : shown) EXPECT_GT(verdict.at("counts").at(kind).to_number<int>(), 0) << kind;
    }
  }
};

#define SKIP_WITHOUT_BROWSER \
  if (browser().empty()) GTEST_SKIP() << "no chromium here: the page was not held against its data"

// ---- the page as text

value embedded(const std::string& page) {
  const std::string mark = "<script type=\"application/json\" id=\"data\">";
  const std::size_t from = page.find(mark) + mark.size();
  return boost::json::parse(page.substr(from, page.find("</script>", from) - from));
}

TEST_F(Report, CarriesItsData) {
  object data = plan_data();
  data["name"] = "</script><script>alert(1)</script>";
  EXPECT_EQ(embedded(report_page(data)), value(data));
}

TEST_F(Report, EscapesWhatItShows) {
  object data = plan_data();
  data["hardware"] = "</h1><img src=x onerror=\"alert('&')\">";
  const std::string page = report_page(data);
  EXPECT_THAT(page, HasSubstr("&lt;/h1&gt;&lt;img src=x onerror=&quot;alert(&#39;&amp;&#39;)&quot;&gt;"));
  EXPECT_THAT(page, Not(HasSubstr("<img")));
}

TEST_F(Report, FetchesNothingAndRunsNothing) {
  const std::string page = report_page(plan_data());
  for (const char* word : {"http:", "https:", "src=", "url(", "@import", "<script>"})
    EXPECT_THAT(page, Not(HasSubstr(word)));
}

TEST_F(Report, RefusesAnotherKind) {
  EXPECT_THROW(report_page({{"report", "weather"}}), kernels::Error);
  EXPECT_THROW(report_page({}), kernels::Error);
}

// Each member, at any depth down to 4, taken away or null, one at a time; of arrays the first element stands for all.
void for_each_lack(value& whole, value& part, int depth, const std::function<void()>& visit) {
  if (part.is_array() && !part.get_array().empty() && depth > 0)
    for_each_lack(whole, part.get_array()[0], depth - 1, visit);
  if (!part.is_object() || depth == 0) return;
  std::vector<std::string> keys;
  for (const auto& member : part.get_object()) keys.emplace_back(member.key());
  for (const std::string& key : keys) {
    if (key == "report") continue;
    const value kept = part.at(key);
    part.as_object()[key] = nullptr;
    visit();
    part.as_object().erase(key);
    visit();
    part.as_object()[key] = kept;
    for_each_lack(whole, part.at(key), depth - 1, visit);
  }
}

TEST_F(Report, DoesWithoutWhatIsMissing) {
  for (const object& data : {plan_data(), run_data()}) {
    value changed = data;
    int pages = 0;
    for_each_lack(changed, changed, 4, [&] {
      ++pages;
      EXPECT_THAT(report_page(changed.as_object()), testing::EndsWith("</body></html>\n"));
    });
    EXPECT_GT(pages, 50);
    EXPECT_EQ(changed, value(data));
  }
  for (const char* kind : {"plan", "search", "compare", "run"}) report_page({{"report", kind}});
}

// ---- the page as a browser lays it out

TEST_F(Report, PlanHolds) {
  SKIP_WITHOUT_BROWSER;
  expect_holds(plan_data(), {"figures", "bars", "ticks", "spans"});
  expect_holds({{"report", "plan"}, {"step_s", 0.5}}, {"figures"});
}

TEST_F(Report, SearchHolds) {
  SKIP_WITHOUT_BROWSER;
  object data = search_data();
  expect_holds(data, {"figures", "ticks", "dots", "curves"});
  data.at("smallest").as_object()["full"] = nullptr;
  data.at("front").as_object()["full"] = array();
  expect_holds(data, {"figures", "ticks", "dots", "curves"});
}

TEST_F(Report, CompareHolds) {
  SKIP_WITHOUT_BROWSER;
  object data = compare_data();
  expect_holds(data, {"figures", "bars", "ticks", "dots", "curves"});
  data.erase("planned");
  data.erase("front");
  expect_holds(data, {"figures", "bars", "ticks", "dots", "curves"});
}

TEST_F(Report, RunHolds) {
  SKIP_WITHOUT_BROWSER;
  object data = run_data();
  expect_holds(data, {"figures", "bars", "ticks", "dots", "curves"});
  // A loss that was not finite is a gap in the curve.
  data.at("metrics").as_array()[7].as_object()["loss"] = nullptr;
  expect_holds(data, {"figures", "bars", "ticks", "dots", "curves"});
}

// The check itself sees a wrong figure, length, place, tick, title, and a number that stands nowhere.
TEST_F(Report, ChecksCanFail) {
  SKIP_WITHOUT_BROWSER;
  const object data = search_data();
  const std::string plan = report_page(plan_data()), search = report_page(data);
  const auto cut = [](const std::string& page, const std::string& before, const std::string& with) {
    std::size_t from = page.find(before);
    EXPECT_NE(from, std::string::npos) << before;
    from += before.size();
    return page.substr(0, from) + with + page.substr(page.find_first_of("\"<", from));
  };
  const std::pair<const char*, std::string> planted[] = {
      {"shows", cut(plan, "data-at=\"/ranks\" data-as=\"count\">", "5")},
      {"has no value", replaced(plan, "data-at=\"/step_s\"", "data-at=\"/steps_s\"")},
      {"length", cut(plan, "data-at=\"/time/products\" data-as=\"ms\" x=\"0%\" width=\"", "97%")},
      {"start", cut(plan, "data-span=\"/timeline/0/1\" x=\"", "50%")},
      {"no figure", replaced(plan, "<h2>", "<h2>2 ")},
      {"stands at", cut(search, "data-tick=\"1\" x=\"0%\" y=\"358\">", "3")},
      {"titled", replaced(search, " ms</title>", "0 ms</title>")},
      {", y: at", cut(search, "r=\"4.5\" cx=\"0%\" cy=\"", "51%")},
      {", x: at", cut(search, "class=\"dot lora\" r=\"4.5\" cx=\"", "49%")},
      {"points, expected", cut(search, "data-x-plus=\"0\" points=\"", "0.00,999.00 0.00,0.00")},
      {"/front/lora 0, x: at", replaced(search, "points=\"0.00,", "points=\"9.00,")}};
  for (const auto& [words, page] : planted)
    EXPECT_THAT(boost::json::serialize(verdict_on(page, 1200).at("faults")), HasSubstr(words));
}

}  // namespace
}  // namespace lorashard::launch
