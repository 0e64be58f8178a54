// What a user gets wrong: each time one line that says what and where, the right exit code, and nothing written.
// Long, since every kind of input has its mistakes here, and they share the files that are right.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "tests/core/safetensors_bytes.hpp"
#include "tests/launch/program.hpp"

namespace lorashard::launch {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;

class BadInput : public Program {
 protected:
  void SetUp() override {
    write_file(at("text.txt"), some_text(30000));
    write_file(at("job.ini"), kTinyJob);
    ASSERT_EQ(call("tokenize --from text.txt --to train.h5").code, 0) << content_of(at(".err"));
  }

  // A base file, by training from nothing.
  void make_base(const std::string& name, const std::string& more = "") {
    const Outcome made = call("train --config job.ini --adapter.method full --run.dir made " + more);
    ASSERT_EQ(made.code, 0) << made.err;
    std::filesystem::rename(at("made/model.h5"), at(name));
    std::filesystem::remove_all(at("made"));
  }

  void expect_refused(const std::string& arguments, const testing::Matcher<int>& code,
                      const testing::Matcher<const std::string&>& message, const std::string& before = "") {
    const auto there = everything();
    const Outcome outcome = call(arguments, before);
    EXPECT_THAT(outcome.code, code) << outcome.err;
    EXPECT_EQ(outcome.error_lines(), 1) << outcome.err;
    EXPECT_THAT(outcome.err, message);
    const auto now = everything();
    for (const auto& [name, content] : now) EXPECT_TRUE(there.count(name)) << name << " was made";
    EXPECT_TRUE(now == there) << "a file was changed";
  }

  // Turns one bit of the first byte from `place` on that is not zero: HDF5 leaves gaps of zeros that nothing reads.
  void damage(const std::string& from, const std::string& to, std::size_t place) {
    std::string content = content_of(at(from));
    content.at(content.find_first_not_of('\0', place)) ^= 0x10;
    write_file(at(to), content);
  }

  // Empty, cut in half, no such file at all, and one bit turned at four places.
  void expect_damage_refused(const std::string& good, const std::string& arguments) {
    SCOPED_TRACE(good);
    const std::string content = content_of(at(good));
    write_file(at("empty"), "");
    write_file(at("half"), content.substr(0, content.size() / 2));
    for (const std::string name : {"empty", "half", "nowhere"})
      expect_refused(arguments + " " + name, 6, HasSubstr(name));
    for (std::size_t eighth = 1; eighth < 8; eighth += 2) {
      SCOPED_TRACE(testing::Message() << "bit at " << eighth << "/8");
      damage(good, "flipped", content.size() * eighth / 8);
      // What was hit decides: damaged contents (6), or a file of another form (2).
      expect_refused(arguments + " flipped", AnyOf(2, 6), HasSubstr("flipped"));
    }
  }
};

TEST_F(BadInput, CommandLineAndKeys) {
  expect_refused("trian", 2, HasSubstr("'train'"));
  expect_refused("train --config job.ini --train.step 3", 2,
                 AllOf(HasSubstr("'--train.step'"), HasSubstr("'--train.steps'")));
  expect_refused("train --config job.ini --train.steps", 2, HasSubstr("--train.steps: found nothing"));
  expect_refused("train --config job.ini --train.steps=x", 2, HasSubstr("found 'x', expected a whole number"));
  expect_refused("train job.ini", 2, HasSubstr("found 'job.ini'"));
  expect_refused("train --config nowhere.ini", 2, HasSubstr("nowhere.ini"));
  expect_refused("tokenize --from text.txt", 2, HasSubstr("--to is missing"));
  expect_refused("train --config job.ini --run.dir=", 2, HasSubstr("run.dir: missing"));
  expect_refused("train --config job.ini --data.train=", 2, HasSubstr("data.train: missing"));
  write_file(at("job2.ini"), std::string(kTinyJob) + "[train]\nstep = 3\n");
  expect_refused("train --config job2.ini", 2, AllOf(HasSubstr("job2.ini:18"), HasSubstr("'train.steps'")));
}

TEST_F(BadInput, KeysThatDoNotFitTogether) {
  expect_refused("train --config job.ini --mesh.tensor 2", 2, HasSubstr("rank"));
  expect_refused("train --config job.ini --mesh.pipeline 3", 2, HasSubstr("mesh.pipeline"));
  expect_refused("train --config job.ini --model.heads 3", 2, HasSubstr("model.heads"));
  expect_refused("train --config job.ini --train.microbatch 4", 2, HasSubstr("train.microbatch"));
  expect_refused("train --config job.ini --data.length 17", 2, HasSubstr("data.length"));
  expect_refused("train --config job.ini --adapter.layers 2", 2, HasSubstr("adapter.layers"));
}

TEST_F(BadInput, MeshThatDoesNotDivide) {
  const auto there = everything();
  const Outcome outcome = call("train --config job.ini --mesh.tensor 3", mpirun(3));
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("mesh.tensor: found 3, which does not divide the model's 2 heads"));
  EXPECT_TRUE(everything() == there);
}

TEST_F(BadInput, BaseFile) {
  make_base("base.h5");
  expect_refused("train --config job.ini --model.base base.h5 --model.width 32", 2,
                 HasSubstr("model.width: found 32, expected 16"));
  expect_damage_refused("base.h5", "train --config job.ini --model.base");
  expect_refused("train --config job.ini --model.base train.h5", 2, HasSubstr("train.h5"));
}

TEST_F(BadInput, TokenFile) {
  expect_refused("train --config job.ini --model.vocab 100", 2, AllOf(HasSubstr("257"), HasSubstr("100")));
  expect_damage_refused("train.h5", "train --config job.ini --data.train");
  expect_damage_refused("train.h5", "train --config job.ini --data.valid");
}

TEST_F(BadInput, AdapterAndCheckpoint) {
  make_base("base.h5");
  make_base("other.h5", "--adapter.seed 2");
  ASSERT_EQ(call("train --config job.ini --model.base base.h5").code, 0) << content_of(at(".err"));
  std::filesystem::rename(at("run/adapter.h5"), at("adapter.h5"));
  std::filesystem::remove_all(at("run"));
  const std::string job = "train --config job.ini --model.base base.h5 ";
  expect_refused("train --config job.ini --model.base other.h5 --adapter.init adapter.h5", 2, HasSubstr("base_digest"));
  expect_refused("train --config job.ini --model.base other.h5 --run.resume adapter.h5", 2, HasSubstr("base_digest"));
  expect_refused(job + "--run.resume adapter.h5 --adapter.rank 4", 2, HasSubstr("adapter.h5"));
  expect_refused(job + "--run.resume adapter.h5 --adapter.targets o", 2, HasSubstr("adapter.h5"));
  expect_refused(job + "--run.resume adapter.h5 --adapter.method full", 2, HasSubstr("method"));
  expect_refused(job + "--run.resume adapter.h5 --train.steps 2", 2, HasSubstr("train.steps"));
  expect_damage_refused("adapter.h5", job + "--run.resume");
  expect_damage_refused("adapter.h5", job + "--adapter.init");
}

// Whatever takes an adapter refuses one of another base, whichever way it is written down.
TEST_F(BadInput, AdaptersOfAnotherBase) {
  make_base("base.h5");
  make_base("other.h5", "--adapter.seed 2");
  ASSERT_EQ(call("train --config job.ini --model.base base.h5").code, 0) << content_of(at(".err"));
  std::filesystem::rename(at("run/adapter.h5"), at("adapter.h5"));
  std::filesystem::remove_all(at("run"));
  ASSERT_EQ(call("export --from adapter.h5 --to peft").code, 0) << content_of(at(".err"));
  for (const std::string adapter : {"adapter.h5", "peft"}) {
    const auto refused = [&](const std::string& arguments) {
      expect_refused(arguments + adapter, 2,
                     AllOf(HasSubstr(adapter), HasSubstr("base_digest"), HasSubstr("other.h5")));
    };
    refused("train --config job.ini --model.base other.h5 --adapter.init ");
    refused("evaluate --config job.ini --model.base other.h5 --data.valid train.h5 --adapter ");
    refused("generate --config job.ini --model.base other.h5 --prompt x --adapter ");
    refused("merge --config job.ini --model.base other.h5 --to merged.h5 --adapter ");
    refused("info --base other.h5 ");
    EXPECT_EQ(call("evaluate --config job.ini --model.base base.h5 --data.valid train.h5 --adapter " + adapter).code,
              0);
  }
  expect_refused("export --from adapter.h5 --base other.h5 --to out", 2,
                 AllOf(HasSubstr("adapter.h5"), HasSubstr("base_digest")));
}

TEST_F(BadInput, PeftDirectory) {
  make_base("base.h5");
  ASSERT_EQ(call("train --config job.ini --model.base base.h5").code, 0) << content_of(at(".err"));
  ASSERT_EQ(call("export --from run/adapter.h5 --to peft").code, 0) << content_of(at(".err"));
  std::filesystem::remove_all(at("run"));
  const std::string config = content_of(at("peft/adapter_config.json"));
  const std::string weights = content_of(at("peft/adapter_model.safetensors"));
  const auto refused = [&](const testing::Matcher<const std::string&>& message) {
    expect_refused("train --config job.ini --model.base base.h5 --adapter.init peft", 2, message);
    expect_refused("info peft --base base.h5", 2, message);
    write_file(at("peft/adapter_config.json"), config);
    write_file(at("peft/adapter_model.safetensors"), weights);
  };
  const std::pair<const char*, const char*> edits[] = {
      {"\"peft_type\":\"LORA\"", "\"peft_type\":\"LOHA\""},
      {"\"use_dora\":false", "\"use_dora\":true"},
      {"\"modules_to_save\":null", "\"modules_to_save\":[\"lm_head\"]"},
      {"\"bias\":\"none\"", "\"bias\":\"all\""},
      {"\"r\":16", "\"r\":8"},
      {"\"attn.c_attn\"", "\"attn.c_attn\",\"mlp.c_fc\""}};
  for (const auto& [from, to] : edits) {
    std::string edited = config;
    ASSERT_NE(edited.find(from), edited.npos) << from << " in " << edited;
    write_file(at("peft/adapter_config.json"), edited.replace(edited.find(from), std::strlen(from), to));
    refused(HasSubstr("peft/adapter_"));
  }
  write_file(at("peft/adapter_model.safetensors"), weights.substr(0, weights.size() - 4));
  refused(HasSubstr("adapter_model.safetensors"));
  std::string flipped = weights;
  flipped[weights.size() - 2] ^= 1;
  write_file(at("peft/adapter_model.safetensors"), flipped);
  refused(HasSubstr("'base_model.model.transformer.h.1.attn.c_attn.lora_B.weight' is damaged"));
}

// A Hugging Face directory of one layer, width 4, in which `bad` has a NaN.
void write_directory(const std::filesystem::path& directory, const std::string& bad) {
  core::SafetensorsBuilder tensors;
  const auto add = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    std::vector<float> values(static_cast<std::size_t>(shape[0] * (shape.size() > 1 ? shape[1] : 1)), 0.5f);
    if (name == bad) values[3] = std::nanf("");
    tensors.add(name, shape, values);
  };
  add("wte.weight", {5, 4});
  add("wpe.weight", {3, 4});
  for (const std::string norm : {"h.0.ln_1", "h.0.ln_2", "ln_f"}) add(norm + ".weight", {4}), add(norm + ".bias", {4});
  const std::pair<const char*, std::pair<int, int>> linears[] = {{"h.0.attn.c_attn", {4, 12}},
                                                                 {"h.0.attn.c_proj", {4, 4}},
                                                                 {"h.0.mlp.c_fc", {4, 16}},
                                                                 {"h.0.mlp.c_proj", {16, 4}}};
  for (const auto& [name, extents] : linears) {
    add(std::string(name) + ".weight", {extents.first, extents.second});
    add(std::string(name) + ".bias", {extents.second});
  }
  std::filesystem::create_directory(directory);
  write_file(directory / "model.safetensors", tensors.bytes());
  write_file(directory / "config.json",
             R"({"model_type":"gpt2","n_layer":1,"n_embd":4,"n_head":2,"vocab_size":5,"n_positions":3})");
}

TEST_F(BadInput, HuggingFaceDirectory) {
  write_directory(at("good"), "");
  ASSERT_EQ(call("import --from good --to good.h5").code, 0) << content_of(at(".err"));
  write_directory(at("bad"), "h.0.mlp.c_fc.weight");
  expect_refused("import --from bad --to bad.h5", 2, AllOf(HasSubstr("h.0.mlp.c_fc.weight"), HasSubstr("nan")));
  const std::string weights = content_of(at("good/model.safetensors"));
  for (const std::string& damaged : {std::string(), weights.substr(0, weights.size() / 2), weights.substr(0, 5)}) {
    write_file(at("bad/model.safetensors"), damaged);
    expect_refused("import --from bad --to bad.h5", 2, HasSubstr("model.safetensors"));
  }
  for (const std::size_t bit : {0, 1, 9, 40}) {  // the header's length and its text
    write_file(at("bad/model.safetensors"), weights);
    damage("bad/model.safetensors", "bad/model.safetensors", bit);
    expect_refused("import --from bad --to bad.h5", 2, HasSubstr("model.safetensors"));
  }
  std::filesystem::remove(at("bad/model.safetensors"));
  expect_refused("import --from bad --to bad.h5", 2, HasSubstr("model.safetensors"));
  expect_refused("import --from nowhere --to bad.h5", 2, HasSubstr("nowhere"));
}

TEST_F(BadInput, Text) {
  const auto refused = [&](const std::string& lines, const testing::Matcher<const std::string&>& message) {
    write_file(at("lines.jsonl"), lines);
    expect_refused("tokenize --from lines.jsonl --to lines.h5 --vocab-size 10", 2, message);
  };
  const std::string good = "{\"input_ids\": [1, 2, 3], \"labels\": [-100, 2, 3]}\n";
  refused("", HasSubstr("lines.jsonl"));
  refused(good + "{\"input_ids\": [1, 2, 3], \"labels\": [2, 3]}\n",
          AllOf(HasSubstr("lines.jsonl:2"), HasSubstr("labels")));
  refused(good + "{\"input_ids\": [1, 2, 10], \"labels\": [1, 2, 3]}\n",
          AllOf(HasSubstr("lines.jsonl:2"), HasSubstr("10")));
  refused(good + good.substr(0, 20), HasSubstr("lines.jsonl:2"));
  refused("{\"input_ids\": [1, 2x3], \"labels\": [1, 2]}\n", HasSubstr("lines.jsonl:1"));
  expect_refused("tokenize --from nowhere.txt --to lines.h5", 2, HasSubstr("nowhere.txt"));
  expect_refused("tokenize --from text.txt --to text.h5 --vocab nowhere", 2, HasSubstr("nowhere"));
}

TEST_F(BadInput, RunDirectoryInUse) {
  ASSERT_EQ(call("train --config job.ini --train.steps 1").code, 0);
  const int lock = ::open(at("run/lock").c_str(), O_RDWR);
  ASSERT_EQ(::flock(lock, LOCK_EX), 0);
  expect_refused("train --config job.ini", 2, AllOf(HasSubstr("in use by another run"), HasSubstr("pid ")));
  ::close(lock);
  expect_refused("train --config job.ini --run.resume never", 2, HasSubstr("holds a run"));
  EXPECT_EQ(call("train --config job.ini").code, 0);
}

TEST_F(BadInput, PlacesThatCannotBeWritten) {
  expect_refused("train --config job.ini --run.dir text.txt", 2, HasSubstr("text.txt"));
  expect_refused("train --config job.ini --run.dir text.txt/run", 2, HasSubstr("text.txt/run"));
  expect_refused("tokenize --from text.txt --to nowhere/train.h5", 6, HasSubstr("nowhere/train.h5"));
}

// As a user without rights; root may write anywhere.
TEST_F(BadInput, NoPermission) {
  const std::string nobody = ::geteuid() == 0 ? "setpriv --reuid 65534 --regid 65534 --clear-groups" : "";
  std::filesystem::permissions(folder_, std::filesystem::perms(0755));
  if (call("--version", nobody).code != 0) GTEST_SKIP() << "the program lies where only root may go: not tested";
  std::filesystem::create_directory(at("closed"));
  std::filesystem::permissions(at("closed"), std::filesystem::perms(0555));
  expect_refused("train --config job.ini --run.dir closed/run", 6, HasSubstr("closed/run"), nobody);
  expect_refused("tokenize --from text.txt --to closed/train.h5", 6, HasSubstr("closed/train.h5"), nobody);
  std::filesystem::permissions(at("train.h5"), std::filesystem::perms(0000));
  expect_refused("train --config job.ini", 6, HasSubstr("train.h5"), nobody);
}

// A file system of a few pages, filled by the run itself.
TEST_F(BadInput, FullDisk) {
  std::filesystem::create_directory(at("small"));
  if (::mount("none", at("small").c_str(), "tmpfs", 0, "size=64k") != 0)
    GTEST_SKIP() << "no small file system can be mounted here: a full disk was not tested";
  const Outcome train = call("train --config job.ini --adapter.targets all --run.dir small/run");
  const Outcome tokenize = call("tokenize --from text.txt --to small/train.h5");
  const bool left =
      std::filesystem::exists(at("small/train.h5")) || std::filesystem::exists(at("small/train.h5.partial"));
  std::size_t saved = 0;
  for (const auto& entry : std::filesystem::directory_iterator(at("small/run/checkpoints")))
    saved += entry.path().native().size();
  ::umount(at("small").c_str());
  EXPECT_EQ(train.code, 6);
  EXPECT_EQ(train.error_lines(), 1) << train.err;
  EXPECT_THAT(train.err, HasSubstr("No space left on device"));
  EXPECT_EQ(saved, 0u);
  EXPECT_EQ(tokenize.code == 6, !left) << tokenize.err;
}

}  // namespace
}  // namespace lorashard::launch
