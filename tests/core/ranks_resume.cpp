// Checkpoints of the real trainer: the same mesh continues bit for bit, any other mesh to rounding.
#include <gtest/gtest.h>

#include "core/base_file.hpp"
#include "core/context.hpp"
#include "tests/golden/trial.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::core {
namespace {

using golden::on_mesh;
using golden::on_rank_0;
using golden::scratch;

constexpr Index kLength = 7, kVocab = 53, kBatch = 12;
constexpr int kSaveAfter = 3, kSteps = 6;
constexpr double kOtherMesh = 3e-6;  // relative, as the golden losses are held

struct Files {
  std::string base, other_base, tokens;
};

// Collective.
const Files& files() {
  static const Files made = [] {
    Files f{scratch() + "/base.h5", scratch() + "/other.h5", scratch() + "/tokens.h5"};
    on_rank_0([&] {
      const oracle::Shape shape{.layers = 6, .width = 24, .heads = 12, .ffn = 36, .vocab = kVocab, .context = 16};
      golden::write_base(f.base, oracle::random_model(shape, 1));
      golden::write_base(f.other_base, oracle::random_model(shape, 2));
      golden::write_tokens(f.tokens, golden::random_documents(40, kLength, kVocab, 3), kVocab);
    });
    return f;
  }();
  return made;
}

// A job with everything that a checkpoint must carry: shuffled data, dropout, warm-up, clipping.
Config job(Method method, const dist::MeshExtents& mesh, DType precision = DType::f32) {
  Config config;
  config.model.base = files().base;
  config.model.shape = BaseFile(files().base).shape();
  config.adapter.method = method;
  config.adapter.targets = {Target::qkv, Target::o, Target::up, Target::down};
  config.adapter.rank = 4;
  config.adapter.rank_of[Target::up] = 2;
  config.adapter.dropout = method == Method::lora ? 0.1 : 0;
  config.data.length = kLength;
  config.train.steps = kSteps;
  config.train.batch = kBatch;
  config.train.precision = precision;
  const Index share = kBatch / mesh.data;
  config.train.microbatch = share % 2 == 0 ? 2 : share;
  config.optimizer.lr = 1e-2;
  config.optimizer.warmup = 2;
  config.mesh.tensor = mesh.tensor;
  config.mesh.pipeline = mesh.pipeline;
  config.mesh.sequence_parallel = mesh.tensor > 1;
  config.device.threads = 1;
  return config;
}

using Values = std::vector<Trainer::NamedValues>;

void expect_equal(const Values& found, const Values& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].name, expected[i].name);
    EXPECT_EQ(found[i].values, expected[i].values) << found[i].name;  // f32, every bit
  }
}

std::vector<StepReport> take_steps(Trainer& trainer, const Dataset& data, int count) {
  std::vector<StepReport> reports;
  for (int i = 0; i < count; ++i) reports.push_back(trainer.step(data));
  return reports;
}

Dataset open_data() { return Dataset(files().tokens, kLength, Order::shuffled, 5); }

// The undisturbed run's part after the checkpoint, and what the checkpoint holds.
struct Continuation {
  std::string checkpoint;
  std::vector<StepReport> reports;
  Values saved, final_values;
};

// Two trainers: one never saves; the other saves on its way and must not be disturbed by it.
Continuation run_and_save(const Config& config, const std::string& path, kernels::Device& device, dist::Mesh& mesh) {
  const Dataset data = open_data();
  Continuation c{path, {}, {}, {}};
  Trainer undisturbed(config, device, mesh), saving(config, device, mesh);
  take_steps(undisturbed, data, kSaveAfter);
  take_steps(saving, data, kSaveAfter);
  EXPECT_GT(saving.save(path), 0);
  c.saved = saving.trained_values();
  c.reports = take_steps(undisturbed, data, kSteps - kSaveAfter);
  const std::vector<StepReport> after = take_steps(saving, data, kSteps - kSaveAfter);
  for (std::size_t i = 0; i < after.size(); ++i) EXPECT_EQ(after[i].loss, c.reports[i].loss) << "saving disturbed";
  c.final_values = undisturbed.trained_values();
  return c;
}

void resume_on_same_mesh(const Config& config, const Continuation& c, kernels::Device& device, dist::Mesh& mesh) {
  const Dataset data = open_data();
  Trainer resumed(config, device, mesh);
  resumed.load(c.checkpoint);
  EXPECT_EQ(resumed.steps_done(), kSaveAfter);
  expect_equal(resumed.trained_values(), c.saved);
  const std::vector<StepReport> reports = take_steps(resumed, data, kSteps - kSaveAfter);
  for (std::size_t i = 0; i < reports.size(); ++i) {
    EXPECT_EQ(reports[i].step, kSaveAfter + static_cast<Index>(i));
    EXPECT_EQ(reports[i].loss, c.reports[i].loss);
    EXPECT_EQ(reports[i].grad_norm, c.reports[i].grad_norm);
    EXPECT_EQ(reports[i].lr, c.reports[i].lr);
  }
  expect_equal(resumed.trained_values(), c.final_values);
}

void resume_on_other_mesh(const Config& config, const Continuation& c, kernels::Device& device, dist::Mesh& mesh) {
  const Dataset data = open_data();
  Trainer resumed(config, device, mesh);
  resumed.load(c.checkpoint);
  const Values loaded = resumed.trained_values();
  expect_equal(loaded, c.saved);
  const std::vector<StepReport> reports = take_steps(resumed, data, kSteps - kSaveAfter);
  for (std::size_t i = 0; i < c.reports.size(); ++i) {
    EXPECT_NEAR(reports[i].loss, c.reports[i].loss, kOtherMesh * c.reports[i].loss) << "step " << reports[i].step;
    EXPECT_EQ(reports[i].lr, c.reports[i].lr);
  }
}

// Where a checkpoint of `from` is continued besides there: one rank alone, and two other meshes of as many ranks; of
// 2x2x1 these are 4x1x1 and 1x2x2.
std::vector<dist::MeshExtents> other_meshes(std::size_t from, const std::vector<dist::MeshExtents>& meshes) {
  std::vector<dist::MeshExtents> others;
  if (meshes.size() > 1) others.push_back({1, 1, 1});
  for (std::size_t ahead : {1, 3})
    if (ahead < meshes.size()) others.push_back(meshes[(from + ahead) % meshes.size()]);
  return others;
}

class Resume : public testing::TestWithParam<Method> {};

// In bf16 a dense weight's f32 master is what must come back.
TEST_P(Resume, InBf16OnTheSameMeshIsBitwise) {
  const std::vector<dist::MeshExtents> meshes = golden::meshes_of(runtime().size());
  const dist::MeshExtents extents = meshes[meshes.size() / 2];  // 1x1x1, 1x2x1, 2x1x2, 2x1x3
  on_mesh(extents, [&](kernels::Device& device, dist::Mesh& mesh) {
    const Config config = job(GetParam(), extents, DType::bf16);
    resume_on_same_mesh(config, run_and_save(config, scratch() + "/bf16", device, mesh), device, mesh);
  });
}

TEST_P(Resume, OnTheSameMeshIsBitwiseAndOnOthersToRounding) {
  const std::vector<dist::MeshExtents> meshes = golden::meshes_of(runtime().size());
  for (std::size_t i = 0; i < meshes.size(); ++i) {
    const dist::MeshExtents from = meshes[i];
    Continuation c;
    on_mesh(from, [&](kernels::Device& device, dist::Mesh& mesh) {
      const Config config = job(GetParam(), from);
      c = run_and_save(config, scratch() + "/" + dist::to_string(from), device, mesh);
      resume_on_same_mesh(config, c, device, mesh);
    });
    for (const dist::MeshExtents& to : other_meshes(i, meshes)) {
      SCOPED_TRACE("from " + dist::to_string(from) + " to " + dist::to_string(to));
      on_mesh(to, [&](kernels::Device& device, dist::Mesh& mesh) {
        resume_on_other_mesh(job(GetParam(), to), c, device, mesh);
      });
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Methods, Resume, testing::Values(Method::lora, Method::full),
                         [](const auto& info) { return info.param == Method::lora ? "lora" : "full"; });

// What load() throws for a checkpoint of `saved` in a job `other`.
void expect_refused(const Config& saved, const Config& other, const std::string& part_of_message) {
  SCOPED_TRACE(part_of_message);
  on_mesh({1, 1, 1}, [&](kernels::Device& device, dist::Mesh& mesh) {
    const std::string path = scratch() + "/refused";
    Trainer(saved, device, mesh).save(path);
    Trainer trainer(other, device, mesh);
    const Values before = trainer.trained_values();
    try {
      trainer.load(path);
      ADD_FAILURE() << "was loaded";
    } catch (const kernels::Error& error) {
      EXPECT_EQ(error.failure(), kernels::Failure::configuration) << error.what();
      EXPECT_NE(std::string(error.what()).find(part_of_message), std::string::npos) << error.what();
    }
    expect_equal(trainer.trained_values(), before);
  });
}

TEST(Resume, RefusesAnotherJobsCheckpoint) {
  const Config saved = job(Method::lora, {1, 1, 1});
  Config other_base = saved, other_targets = saved, other_rank = saved;
  other_base.model.base = files().other_base;
  other_rank.adapter.rank = 3;
  other_targets.adapter.targets = {Target::q, Target::v};
  expect_refused(saved, other_base, "base");
  expect_refused(saved, other_targets, "targets");
  expect_refused(saved, other_rank, "lora_a");
  expect_refused(saved, job(Method::full, {1, 1, 1}), "method");
}

}  // namespace
}  // namespace lorashard::core
