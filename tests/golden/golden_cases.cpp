#include "tests/golden/golden_cases.hpp"

#include <algorithm>

#include "core/base_file.hpp"
#include "tests/golden/trial.hpp"

namespace lorashard::golden {
namespace {

using core::Recompute;
using core::Target;
using dist::ScheduleKind;

constexpr ScheduleKind kSchedules[] = {ScheduleKind::gpipe, ScheduleKind::one_f_one_b, ScheduleKind::interleaved};
constexpr core::Index kMicrobatches[] = {1, 2, 0};
constexpr Recompute kRecomputes[] = {Recompute::none, Recompute::selective, Recompute::full};

core::LearningRate schedule_of(const std::string& name) {
  if (name == "cosine") return core::LearningRate::cosine;
  return name == "constant" ? core::LearningRate::constant : core::LearningRate::linear;
}

// What the job says beside adapter.init: targets and layers as the file has them, the file's own ranks win.
void set_adapters(const oracle::GoldenRun& run, core::AdapterConfig& to) {
  to.init = run.adapter_source;
  to.targets.clear();
  to.layers.clear();
  for (const oracle::Adapter& a : run.adapters) {
    const Target target = target_of(a.where);
    if (std::find(to.targets.begin(), to.targets.end(), target) == to.targets.end()) to.targets.push_back(target);
    if (to.layers.empty() || to.layers.back() != a.layer) to.layers.push_back(a.layer);
  }
  to.rank = run.adapters.front().a.rows;
  to.alpha = run.adapters.front().alpha;
}

}  // namespace

std::string title(const GoldenCase& c) { return (c.family == "gpt2" ? "" : c.family + "_") + c.run + "_" + test_name(c.mesh, modes_of(c)); }
void PrintTo(const GoldenCase& c, std::ostream* out) { *out << title(c); }

const std::vector<dist::MeshExtents>& golden_meshes() {
  static const std::vector<dist::MeshExtents> meshes{{1, 1, 1}, {2, 1, 1}, {1, 2, 1}, {1, 1, 2},
                                                     {2, 2, 1}, {3, 2, 1}, {3, 1, 2}, {2, 1, 3}};
  return meshes;
}

std::vector<GoldenCase> all_cases() {
  std::vector<GoldenCase> cases;
  for (const dist::MeshExtents& mesh : golden_meshes())
    for (const char* run : kGoldenRuns)
      for (bool sequence : {false, true})
        for (ScheduleKind schedule : kSchedules)
          for (core::Index microbatch : kMicrobatches)
            for (Recompute recompute : kRecomputes)
              if (mesh.pipeline > 1 || schedule == ScheduleKind::one_f_one_b)
                cases.push_back({run, mesh, sequence, schedule, microbatch, recompute});
  return cases;
}

std::vector<GoldenCase> daily_cases() {
  std::vector<GoldenCase> cases;
  for (std::size_t m = 0; m < golden_meshes().size(); ++m) {
    const dist::MeshExtents& mesh = golden_meshes()[m];
    const bool pipeline = mesh.pipeline > 1;
    for (std::size_t i = 0; i < (pipeline ? 9 : 6); ++i) {
      const std::size_t first = i / 3, second = i % 3;
      const bool sequence = pipeline ? i % 2 : first;
      const ScheduleKind schedule = pipeline ? kSchedules[first] : ScheduleKind::one_f_one_b;
      cases.push_back({kGoldenRuns[(i + m) % 4], mesh, sequence, schedule, kMicrobatches[second],
                       kRecomputes[(first + second) % 3]});
    }
  }
  return cases;
}

std::vector<GoldenCase> llama_cases() {
  const std::vector<dist::MeshExtents> meshes{{1, 1, 1}, {2, 1, 1}, {1, 2, 1}, {1, 1, 2}, {3, 1, 1}, {6, 1, 1},
                                              {2, 2, 1}, {3, 2, 1}, {3, 1, 2}, {2, 1, 3}};
  std::vector<GoldenCase> cases;
  std::size_t turn = 0;
  for (const dist::MeshExtents& mesh : meshes)
    for (const char* run : {"lora_all", "full"}) {
      const ScheduleKind schedule = mesh.pipeline > 1 ? kSchedules[turn % 3] : ScheduleKind::one_f_one_b;
      cases.push_back({run, mesh, mesh.tensor > 1 && turn % 4 < 2, schedule, kMicrobatches[turn / 2 % 3],
                       kRecomputes[turn % 3], "llama"});
      ++turn;
    }
  return cases;
}

core::Config modes_of(const GoldenCase& c) {
  core::Config config;
  config.mesh.tensor = c.mesh.tensor;
  config.mesh.pipeline = c.mesh.pipeline;
  config.mesh.sequence_parallel = c.sequence_parallel;
  config.mesh.schedule = c.schedule;
  config.mesh.chunks = c.schedule == ScheduleKind::interleaved ? 2 : 1;
  config.train.microbatch = c.microbatch;
  config.train.recompute = c.recompute;
  config.device.threads = 1;
  return config;
}

core::Config config_of(const GoldenCase& c, const oracle::GoldenRun& run, const std::string& base_file) {
  core::Config config = modes_of(c);
  config.model.base = base_file;
  config.model.shape = core::BaseFile(base_file).shape();
  config.adapter.method = run.full ? core::Method::full : core::Method::lora;
  if (!run.full) set_adapters(run, config.adapter);
  config.data.length = 16;
  config.data.order = core::Order::sequential;
  config.train.steps = run.settings.steps;
  config.train.batch = run.batch;
  config.train.label_smoothing = run.label_smoothing;
  core::OptimizerConfig& o = config.optimizer;
  o.lr = run.settings.peak_lr, o.beta1 = run.settings.beta1, o.beta2 = run.settings.beta2, o.eps = run.settings.eps;
  o.weight_decay = run.settings.weight_decay, o.clip = run.settings.clip;
  o.schedule = schedule_of(run.settings.schedule), o.warmup = run.settings.warmup;
  return config;
}

}  // namespace lorashard::golden
