// The same job on host and on cuda, step by step, on meshes of as many ranks as the test runs on.
//
// A job on cuda saves its state before every step. From each of those files the host takes the same one step, and loss,
// gradient norm, gradients, moments and values must agree within what one step may round differently: small differences
// never grow over steps, so the bounds can be derived. That cuda's own steps follow each other rightly is then a matter
// of bits: a run that continues from a file, and one that begins a step before it has the last one's report, end as the
// run that did neither.
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/base_file.hpp"
#include "tests/gpu/one_step.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::core {
namespace {

using golden::on_mesh;
using golden::on_rank_0;
using golden::scratch;
using kernels::DeviceKind;

// A layer for each of two stages, heads for four tensor ranks, a sequence for each of four data ranks. On the emulator
// a step takes some 0.1 s.
constexpr oracle::Shape kShape{.layers = 2, .width = 24, .heads = 4, .ffn = 36, .vocab = 37, .context = 9};
constexpr Index kLength = 7, kBatch = 4, kDocuments = 21;
constexpr int kSteps = 4, kResumeAfter = 2;

// AdamW divides by sqrt(v) + eps. With the usual eps of 1e-8 a gradient that is all rounding moves its weight as far as
// any other does; with one of the size of the gradients, a difference in a gradient moves a weight in proportion.
constexpr double kEps = 1e-3, kLr = 2e-2;

struct Job {
  const char* name;
  void (*change)(Config&);
};

const Job kJobs[] = {
    {"lora_qv",
     [](Config& c) {
       c.adapter.targets = {Target::q, Target::v};
     }},
    {"every_kind_dropout",
     [](Config& c) {
       c.adapter.targets = {Target::q, Target::k, Target::v, Target::o, Target::up, Target::down};
       c.adapter.rank_of = {{Target::k, 1}, {Target::up, 5}, {Target::o, kFullRank}};
       c.adapter.dropout = 0.3;
       c.train.label_smoothing = 0.1;
     }},
    {"full", [](Config& c) { c.adapter.method = Method::full; }},
    {"bf16_joint",
     [](Config& c) {
       c.adapter.targets = {Target::qkv, Target::o, Target::up, Target::down};
       c.train.precision = DType::bf16;
     }},
    {"bf16_full", [](Config& c) { c.adapter.method = Method::full, c.train.precision = DType::bf16; }},
};

struct Files {
  std::string base, tokens;
};

// Collective.
const Files& files() {
  static const Files made = [] {
    Files f{scratch() + "/agree_base.h5", scratch() + "/agree_tokens.h5"};
    on_rank_0([&] {
      golden::write_base(f.base, oracle::random_model(kShape, 1));
      golden::write_tokens(f.tokens, golden::random_documents(kDocuments, kLength, kShape.vocab, 3), kShape.vocab);
    });
    return f;
  }();
  return made;
}

Dataset open_data() { return Dataset(files().tokens, kLength, Order::shuffled, 5); }

Config config_of(const Job& job, const dist::MeshExtents& extents) {
  Config config;
  config.model.base = files().base;
  config.model.shape = BaseFile(config.model.base).shape();
  config.adapter.rank = 3;
  config.adapter.alpha = 6;
  config.adapter.seed = 11;
  config.data.length = kLength;
  config.train.steps = kSteps;
  config.train.batch = kBatch;
  config.train.microbatch = std::max<Index>(1, kBatch / extents.data / 2);
  config.optimizer.lr = kLr;
  config.optimizer.eps = kEps;
  config.optimizer.weight_decay = 0.1;
  config.optimizer.warmup = 2;
  config.optimizer.clip = 0.5;
  config.mesh.tensor = extents.tensor;
  config.mesh.pipeline = extents.pipeline;
  config.mesh.sequence_parallel = extents.tensor > 1;
  config.device.threads = 1;
  config.run.norms_every = 2;
  job.change(config);
  return config;
}

std::string state_file(int steps) { return text(scratch(), "/agree-", steps, ".h5"); }

void save_and_read(const Trainer& trainer, const std::string& path, NamedArrays& saved) {
  trainer.save(path);
  saved = contents(path);
}

// Steps to the end, saving before each and after the last; gradients after each.
std::vector<Ends> run_and_save(const Config& config, Trainer& trainer) {
  const Dataset data = open_data();
  std::vector<Ends> steps;
  trainer.save(state_file(0));
  for (int step = 0; step < config.train.steps; ++step) {
    Ends ends;
    ends.reports.push_back(trainer.step(data));
    ends.gradients = golden::by_name(trainer.gradients());
    save_and_read(trainer, state_file(step + 1), ends.saved);
    steps.push_back(std::move(ends));
  }
  return steps;
}

// One step from a file.
Ends step_from(const Config& config, const std::string& path, kernels::Device& device, dist::Mesh& mesh) {
  const Dataset data = open_data();
  Trainer trainer(config, device, mesh);
  trainer.load(path);
  Ends ends;
  ends.reports.push_back(trainer.step(data));
  ends.gradients = golden::by_name(trainer.gradients());
  save_and_read(trainer, text(scratch(), "/agree-stepped.h5"), ends.saved);
  return ends;
}

// Every step but the last is reported after the next was begun.
Ends run_a_step_late(Trainer& trainer) {
  const Dataset data = open_data();
  Ends ends;
  while (trainer.steps_done() < kSteps) {
    trainer.begin(data);
    if (trainer.under_way() == 2) ends.reports.push_back(trainer.finish());
  }
  ends.reports.push_back(trainer.finish());
  EXPECT_EQ(trainer.under_way(), 0);
  save_and_read(trainer, text(scratch(), "/agree-late.h5"), ends.saved);
  return ends;
}

void expect_same_bits(const Ends& found, const std::vector<Ends>& steps, int first) {
  ASSERT_EQ(found.reports.size(), steps.size() - first);
  for (std::size_t i = 0; i < found.reports.size(); ++i) {
    const StepReport &mine = found.reports[i], &known = steps[first + i].reports[0];
    EXPECT_EQ(mine.step, known.step);
    EXPECT_EQ(mine.loss, known.loss) << "step " << known.step;
    EXPECT_EQ(mine.grad_norm, known.grad_norm) << "step " << known.step;
    EXPECT_EQ(mine.lr, known.lr) << "step " << known.step;
    EXPECT_EQ(mine.layers, known.layers) << "step " << known.step;
  }
  for (const auto& [name, array] : steps.back().saved) EXPECT_EQ(found.saved.at(name).values, array.values) << name;
}

void on_cuda_only(const Config& config, kernels::Device& device, dist::Mesh& mesh, std::vector<Ends>& steps) {
  {
    Trainer trainer(config, device, mesh);
    steps = run_and_save(config, trainer);
  }
  {
    SCOPED_TRACE("reported a step late");
    Trainer trainer(config, device, mesh);
    expect_same_bits(run_a_step_late(trainer), steps, 0);
  }
  SCOPED_TRACE("resumed");
  Trainer trainer(config, device, mesh);
  trainer.load(state_file(kResumeAfter));
  EXPECT_EQ(trainer.steps_done(), kResumeAfter);
  expect_same_bits(run_a_step_late(trainer), steps, kResumeAfter);
}

void compare(const Job& job, const dist::MeshExtents& extents) {
  const Config config = config_of(job, extents);
  SCOPED_TRACE(golden::test_name(extents, config));
  std::vector<Ends> steps;
  on_mesh(
      extents, [&](auto& device, auto& mesh) { on_cuda_only(config, device, mesh, steps); }, DeviceKind::cuda);
  Ends of_host;
  const std::string crossing = scratch() + "/agree-host.h5";
  on_mesh(extents, [&](kernels::Device& device, dist::Mesh& mesh) {
    for (int step = 0; step < kSteps && step < static_cast<int>(steps.size()); ++step)
      expect_agreement(config, step_from(config, state_file(step), device, mesh), steps[step]);
    const Dataset data = open_data();
    Trainer trainer(config, device, mesh);
    for (int i = 0; i < 2; ++i) trainer.step(data);
    trainer.save(crossing);
    of_host = step_from(config, crossing, device, mesh);
  });
  SCOPED_TRACE("saved on the host");
  on_mesh(
      extents,
      [&](kernels::Device& device, dist::Mesh& mesh) {
        expect_agreement(config, of_host, step_from(config, crossing, device, mesh));
      },
      DeviceKind::cuda);
}

class Agree : public testing::TestWithParam<std::size_t> {};

// A stage has a layer. Meshes of more ranks take turns, so that every one of them meets several jobs.
bool chosen(std::size_t job, std::size_t mesh, const dist::MeshExtents& extents) {
  return extents.pipeline <= kShape.layers && (mesh + job) % static_cast<std::size_t>(1 + extents.ranks() / 2) == 0;
}

TEST_P(Agree, HostAndCudaTakeTheSameSteps) {
  const int count = kernels::cuda_device_count(), ranks = runtime().size();
  if (count == 0) GTEST_SKIP() << "no GPU here; " << kernels::cuda_build();
  // NCCL wants a GPU for each rank of a host; ranks that call their host by names of their own may share one.
  if (count < ranks && !std::getenv("NCCL_HOSTID"))
    GTEST_SKIP() << ranks << " GPUs are needed, here are " << count << "; " << kernels::cuda_build();
  const std::vector<dist::MeshExtents> meshes = golden::meshes_of(ranks);
  for (std::size_t m = 0; m < meshes.size(); ++m)
    if (chosen(GetParam(), m, meshes[m])) compare(kJobs[GetParam()], meshes[m]);
}
INSTANTIATE_TEST_SUITE_P(Gpt2, Agree, testing::Range<std::size_t>(0, std::size(kJobs)),
                         [](const auto& info) { return kJobs[info.param].name; });

}  // namespace
}  // namespace lorashard::core
