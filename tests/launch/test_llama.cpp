// The llama family through the whole program: the reference runs of ../shared/golden/llama, imported, trained on meshes that
// cut 6 heads over 2 key/value heads in every way, and exported; a real model's text; adapters in and out.
#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <cmath>

#include "tests/launch/program.hpp"
#include "tests/oracle/golden.hpp"
#include "tests/oracle/tensor_file.hpp"

namespace lorashard::launch {
namespace {

namespace json = boost::json;

// Ten times what float32 loses in the reference implementation itself (golden/README.md).
constexpr double kLoss = 3e-6, kGradientNorm = 2e-5, kFinalAdapter = 3e-5, kFinalWeight = 3.3e-3;

std::string shared_folder(const std::string& what) {
  const char* shared = std::getenv("LORASHARD_SHARED");
  return std::filesystem::absolute(shared ? shared : "../shared") / what;
}

std::vector<json::object> json_lines(const std::filesystem::path& path) {
  std::istringstream lines(content_of(path));
  std::vector<json::object> objects;
  for (std::string line; std::getline(lines, line);) objects.push_back(json::parse(line).as_object());
  return objects;
}

class LlamaProgram : public Program {
 protected:
  std::string expect_done(const std::string& arguments, const std::string& before = "") const {
    const Outcome outcome = call(arguments, before);
    EXPECT_EQ(outcome.code, 0) << arguments << "\n" << outcome.err;
    return outcome.out;
  }
  static std::string ranks(int count) { return count > 1 ? mpirun(count) : ""; }
};

struct Case {
  int ranks;
  bool full;
  const char* keys;
};

class GoldenLlama : public LlamaProgram {
 protected:
  void repeat(const Case& c) const {
    SCOPED_TRACE(std::to_string(c.ranks) + " ranks " + (c.full ? "full " : "lora ") + c.keys);
    const std::string run = golden_ + (c.full ? "/full" : "/lora_all");
    std::filesystem::remove_all(at("run"));
    expect_done("train --config job.ini " + std::string(c.full ? "--adapter.method full --optimizer.lr 0.003 "
                                                               : "--adapter.init " + run + "/initial ") + c.keys,
                ranks(c.ranks));
    const auto found = json_lines(at("run/metrics.jsonl")), expected = json_lines(run + "/steps.jsonl");
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t step = 0; step < found.size(); ++step)
      for (const auto& [key, bound] : {std::pair{"loss", kLoss}, {"grad_norm", kGradientNorm}}) {
        const double wanted = expected[step].at(key).to_number<double>();
        EXPECT_NEAR(found[step].at(key).to_number<double>(), wanted, bound * wanted) << key << " of step " << step;
      }
    const std::string out = "out" + std::to_string(c.ranks);
    std::filesystem::remove_all(at(out));
    expect_done("export --from run/" + std::string(c.full ? "model.h5" : "adapter.h5") + " --to " + out);
    const auto made = oracle::read_tensor_file(at(out + (c.full ? "/model.safetensors" : "/adapter_model.safetensors")));
    const auto wanted = oracle::read_tensor_file(run + "/final.safetensors");
    EXPECT_EQ(made.size(), wanted.size());
    for (const auto& [given, values] : wanted) {
      std::string name = given;
      if (const std::size_t word = name.find(".default"); word != name.npos) name.erase(word, 8);
      const auto own = made.find(name);
      ASSERT_TRUE(own != made.end()) << name;
      EXPECT_LE(largest_difference(own->second, values), c.full ? kFinalWeight : kFinalAdapter) << name;
    }
  }

  std::string golden_ = shared_folder("golden/llama");
};

TEST_F(GoldenLlama, IsRepeatedOnEveryMesh) {
  if (!std::filesystem::exists(golden_)) GTEST_SKIP() << oracle::kNoGolden;
  expect_done("import --from " + golden_ + "/base --to base.h5");
  expect_done("tokenize --from " + golden_ + "/base/rows.jsonl --to rows.h5 --vocab-size 97");
  write_file(at("job.ini"),
             "[model]\nbase = base.h5\n[data]\ntrain = rows.h5\nlength = 16\norder = sequential\n[train]\nsteps = 20\n"
             "batch = 12\n[optimizer]\nlr = 0.01\nweight_decay = 0.1\nclip = 0.5\nschedule = linear\nwarmup = 4\n"
             "[device]\nthreads = 1\n[run]\ndir = run\n");
  constexpr Case kCases[] = {
      {1, false, "--train.recompute selective --train.microbatch 4"},
      {2, false, "--mesh.tensor 2 --mesh.sequence_parallel yes"},
      {2, true, "--mesh.pipeline 2 --train.microbatch 3 --train.recompute full"},
      {3, true, "--mesh.tensor 3 --mesh.sequence_parallel yes --train.recompute selective"},
      {4, true, "--mesh.tensor 2"},
      {6, true, "--mesh.tensor 6"},
      {6, false, "--mesh.tensor 3 --mesh.pipeline 2 --train.microbatch 2"},
  };
  for (const Case& c : kCases) repeat(c);

  // Merged, as the reference merged it, into the same bytes on ranks that hold key/value heads alike, and out again.
  const std::string merge = "merge --config job.ini --adapter run/adapter.h5 --to ";
  expect_done(merge + "merged.h5");
  for (const int tensor : {3, 6}) {
    const std::string name = "merged" + std::to_string(tensor) + ".h5";
    expect_done(merge + name + " --mesh.tensor " + std::to_string(tensor), ranks(tensor));
    EXPECT_TRUE(content_of(at(name)) == content_of(at("merged.h5"))) << tensor;
  }
  expect_done("unmerge --from merged.h5 --base base.h5 --to back.h5");
  EXPECT_TRUE(content_of(at("back.h5")) == content_of(at("base.h5")));
  expect_done("export --from merged.h5 --to merged");
  const auto made = oracle::read_tensor_file(at("merged/model.safetensors"));
  for (const auto& [name, values] : oracle::read_tensor_file(golden_ + "/lora_all/merged.safetensors"))
    EXPECT_LE(largest_difference(made.at(name), values), 2 * 4 * kFinalAdapter) << name;  // scale, rank, entries below 1/2
}

TEST_F(LlamaProgram, BytesOfZeroAreGeneratedToo) {
  std::string row(16, '\0'), rows;
  row[0] = 'a';
  for (int i = 0; i < 8; ++i) rows += row;
  write_file(at("train.txt"), rows);
  write_file(at("job.ini"), kTinyJob);
  expect_done("tokenize --from train.txt --format text --to train.h5");
  expect_done("train --config job.ini --adapter.method full --optimizer.lr 0.03 --train.steps 30");
  const std::string zeros(4, '\0'), told = "generate --config job.ini --model.base run/model.h5 --tokens 4 ";
  EXPECT_EQ(expect_done(told + "--prompt a"), zeros + "\n");
  EXPECT_EQ(expect_done(told + "--prompt a --beams 2"), zeros + "\n");
  write_file(at("prompts.txt"), "a\naa\n");
  EXPECT_EQ(expect_done(told + "--prompts prompts.txt"), zeros + "\n" + zeros + "\n");
}

class Stories : public LlamaProgram {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(model_)) GTEST_SKIP() << "../shared/models is not here (LORASHARD_SHARED names another place)";
    expect_done("import --from " + model_ + "/stories260K.bin --to base.h5");
    write_file(at("job.ini"), "[model]\nbase = base.h5\n[device]\nthreads = 1\n");
  }
  std::string generate(const std::string& more, int count = 1) const {
    return expect_done("generate --config job.ini --vocab " + model_ + "/tok512.bin " + more, ranks(count));
  }
  std::string model_ = shared_folder("models/stories260K");
};

TEST_F(Stories, TheGreedyTextIsUpstreamsOnEveryMesh) {
  const std::string expected = content_of(model_ + "/expected_stdout.txt") + "\n";
  const std::string told = "--prompt '' --tokens 200 ";
  EXPECT_EQ(generate(told), expected);
  EXPECT_EQ(generate(told + "--mesh.tensor 2", 2), expected);
  EXPECT_EQ(generate(told, 2), expected);  // data ranks have their own prompts
  EXPECT_EQ(generate(told + "--mesh.tensor 4", 4), expected);
  EXPECT_EQ(generate(told + "--mesh.tensor 2 --mesh.pipeline 2", 4), expected);
}

TEST_F(Stories, PromptsTogetherApartAndOnManyRanks) {
  write_file(at("prompts.txt"), "Once upon a time\nThe dog\nLily and her mom went to\nOne day, a big\nTom\n");
  for (const char* how : {"", "--temperature 0.8 --top-p 0.9 --repetition-penalty 1.1 ", "--beams 3 --length-penalty 0.8 "}) {
    const std::string all = std::string("--prompts prompts.txt --tokens 30 ") + how;
    const std::string expected = generate(all + "--together 8");
    EXPECT_EQ(std::count(expected.begin(), expected.end(), '\n'), 5);
    EXPECT_EQ(generate(all + "--together 2"), expected) << how;
    EXPECT_EQ(generate(all + "--mesh.tensor 2", 4), expected) << how;  // 2 data ranks
    EXPECT_EQ(generate(all, 3), expected) << how;
    generate(all + "--to made.txt");
    EXPECT_EQ(content_of(at("made.txt")), expected) << how;
  }
}

TEST_F(Stories, StopsAndContexts) {
  const std::string whole = generate("--prompt 'Once upon a time' --tokens 60");
  const std::size_t dot = whole.find('.');
  ASSERT_NE(dot, std::string::npos);
  EXPECT_EQ(generate("--prompt 'Once upon a time' --tokens 60 --stop ."), whole.substr(0, dot) + "\n");
  const Outcome narrow = call("generate --config job.ini --vocab " + model_ + "/tok512.bin --prompt x --tokens 5 --temperature -1");
  EXPECT_EQ(narrow.code, 2);
  EXPECT_THAT(narrow.err, testing::HasSubstr("--temperature: found '-1'"));
  const std::string longer(3000, 'a');
  const Outcome full = call("generate --config job.ini --vocab " + model_ + "/tok512.bin --prompt " + longer);
  EXPECT_EQ(full.code, 2);
  EXPECT_THAT(full.err, testing::HasSubstr("expected less than the model's context 512"));
}

// Trained here: beside the base, merged into it, and after a way through PEFT's files an adapter gives the same text and loss.
TEST_F(Stories, AnAdapterBesideMergedAndExported) {
  std::string pairs;
  for (int i = 0; i < 60; ++i) pairs += "food : dish " + std::to_string(i % 9) + "||The dish " + std::to_string(i % 9) + " is good .\n";
  write_file(at("pairs.txt"), pairs);
  expect_done("tokenize --from pairs.txt --to rows.h5 --vocab " + model_ + "/tok512.bin");
  expect_done("train --config job.ini --adapter.targets all --adapter.rank 4 --data.train rows.h5 --data.length 48 --train.batch 8 "
              "--train.steps 30 --optimizer.lr 5e-3 --mesh.tensor 2 --run.dir run",
              ranks(2));
  expect_done("merge --config job.ini --adapter run/adapter.h5 --to merged.h5");
  expect_done("export --from run/adapter.h5 --to peft");
  const std::string prompt = "--prompts pairs.txt --tokens 12 ";
  const std::string beside = generate(prompt + "--adapter run/adapter.h5");
  EXPECT_NE(beside, generate(prompt));
  EXPECT_THAT(beside, testing::HasSubstr("The dish"));
  EXPECT_EQ(generate(prompt + "--adapter peft --mesh.tensor 4", 4), beside);
  EXPECT_EQ(generate(prompt + "--model.base merged.h5 --mesh.pipeline 2", 2), beside);

  const auto loss = [&](const std::string& more, int count = 1) {
    const std::string out = expect_done("evaluate --config job.ini --data.valid rows.h5 --data.length 48 --json --losses each.jsonl " + more,
                                        ranks(count));
    const json::object page = json::parse(out).as_object();
    double sum = 0, scored = 0;
    for (const json::object& row : json_lines(at("each.jsonl"))) {
      sum += row.at("loss").to_number<double>() * row.at("scored").to_number<double>();
      scored += row.at("scored").to_number<double>();
    }
    const double whole = page.at("loss").to_number<double>();
    EXPECT_NEAR(sum / scored, whole, 1e-9 * whole);
    EXPECT_NEAR(std::log(page.at("perplexity").to_number<double>()), whole, 1e-9);
    return whole;
  };
  const double expected = loss("--adapter run/adapter.h5");
  EXPECT_LT(expected, 0.8 * loss(""));
  EXPECT_NEAR(loss("--adapter peft --mesh.tensor 2", 4), expected, 1e-5 * expected);
  EXPECT_NEAR(loss("--model.base merged.h5 --mesh.pipeline 2", 2), expected, 1e-5 * expected);

  // Several in one job: each prompt, and each pass over the rows, with the adapter that its line names.
  write_file(at("three.txt"), "food : dish 1\nfood : dish 2\nfood : dish 3\n");
  write_file(at("list.txt"), "run/adapter.h5\n -\npeft \n");
  const std::string three = "--prompts three.txt --tokens 12 ";
  const auto line = [](const std::string& lines, int number) {
    std::istringstream in(lines);
    std::string one;
    for (int i = 0; i <= number; ++i) std::getline(in, one);
    return one + "\n";
  };
  const std::string adapted = generate(three + "--adapter run/adapter.h5"), bare = generate(three);
  EXPECT_NE(line(adapted, 1), line(bare, 1));
  for (int count : {1, 2})
    EXPECT_EQ(generate(three + "--adapters list.txt", count), line(adapted, 0) + line(bare, 1) + line(adapted, 2)) << count;
  const json::array page = json::parse(expect_done("evaluate --config job.ini --data.valid rows.h5 --data.length 48 --json "
                                                   "--losses each.jsonl --adapters list.txt")).as_array();
  ASSERT_EQ(page.size(), 3u);
  EXPECT_EQ(page[0].at("loss").to_number<double>(), expected);
  EXPECT_EQ(page[1].at("adapter").as_string(), "-");
  EXPECT_EQ(page[1].at("loss").to_number<double>(), loss(""));
  EXPECT_NEAR(page[2].at("loss").to_number<double>(), expected, 1e-5 * expected);

  const auto refused = [&](const std::string& more, const std::string& message) {
    const Outcome outcome = call("generate --config job.ini --vocab " + model_ + "/tok512.bin " + three + more);
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, testing::HasSubstr(message));
  };
  write_file(at("two.txt"), "peft\n-\n");
  write_file(at("nowhere.txt"), "peft\n-\nrun/adaptor.h5\n");
  refused("--adapters two.txt", "two.txt: found 2 lines, expected 3, one for each prompt");
  refused("--adapters nowhere.txt", "nowhere.txt:3: found 'run/adaptor.h5', expected the path of an adapter");
  refused("--adapters list.txt --adapter peft", "found --adapter and --adapters, expected one of them");
  refused("--adapter-memory 4", "--adapter-memory: found without --adapters");
}

}  // namespace
}  // namespace lorashard::launch
