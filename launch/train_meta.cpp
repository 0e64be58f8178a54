#include "launch/train_meta.hpp"

#include <boost/json.hpp>
#include <cstdio>
#include <filesystem>

#include "core/option_values.hpp"
#include "core/quote.hpp"
#include "core/trainer.hpp"
#include "launch/job.hpp"
#include "launch/subcommands.hpp"
#include "launch/summary.hpp"
#include "launch/synthetic_tokens.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using core::Index;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

int ranks_of(const core::Config& config, const Arguments& arguments) {
  const int smallest = config.mesh.tensor * config.mesh.pipeline;
  if (!arguments.has("ranks")) return smallest;
  const auto ranks = core::to_whole(arguments.value("ranks"));
  if (!ranks || *ranks < 1 || *ranks > 1'000'000)
    fail(Failure::configuration, text("command line: --ranks: found ", core::in_quotes(arguments.value("ranks")),
                                      ", expected a number of ranks"));
  return static_cast<int>(*ranks);
}

kernels::DeviceKind target_of(const Arguments& arguments) {
  const std::string target = arguments.value("target", "host");
  if (target == "cuda") return kernels::DeviceKind::cuda;
  if (target != "host")
    fail(Failure::configuration,
         text("command line: --target: found ", core::in_quotes(target), ", expected host or cuda"));
  return kernels::DeviceKind::host;
}

// One training step of one rank, and an evaluation when the job has held-out data.
RankFigures count_rank(const Job& job, const JobData& data, int rank, Index& trained_parameters) {
  const std::unique_ptr<kernels::Device> device = kernels::make_meta_device(job.target);
  dist::Mesh mesh = dist::make_meta_mesh(*device, job.extents, rank);
  core::Trainer trainer(job.config, *device, mesh);
  trained_parameters = trainer.trained_parameters();
  device->profile().reset();
  trainer.step(data.train);
  RankFigures figures = figures_of(*device, trainer.reduced_bytes());
  for (const core::Dataset& set : data.valid) trainer.evaluate(set);
  const RankFigures with_evaluation = figures_of(*device, trainer.reduced_bytes());
  figures.peak_bytes = with_evaluation.peak_bytes;
  figures.peak_total_bytes = with_evaluation.peak_total_bytes;
  figures.peak_resident_bytes = 0;  // this process is not that rank
  return figures;
}

std::string work_table(const std::vector<RankFigures>& ranks) {
  std::vector<std::vector<std::string>> cells;
  for (const RankFigures& rank : ranks) {
    double flops = 0, sent = 0;
    for (const auto& phase : rank.phases) flops += phase.flops, sent += phase.sent_bytes;
    cells.push_back({fixed_text(flops / 1e12, flops < 1e12 ? 6 : 1), bytes_text(sent)});
  }
  return rank_table({"a step", "TFLOP", "sent"}, cells);
}

}  // namespace

int train_on_meta(dist::Runtime& runtime, const Arguments& arguments) {
  expect_one_rank(runtime, "train with device.kind = meta");
  core::Config config = arguments.config();
  // A job is planned before its files are there: the model's extents and random tokens stand in for them.
  if (config.model.shape.layers > 0 && !std::filesystem::exists(config.model.base)) config.model.base.clear();
  if (!std::filesystem::exists(config.data.train)) config.data.train.clear();
  for (const std::string& path : valid_paths(config))
    if (!std::filesystem::exists(path)) config.data.valid.clear();
  const int ranks = ranks_of(config, arguments);
  Job job = make_job(std::move(config), ranks);
  job.target = target_of(arguments);
  std::optional<SyntheticTokens> tokens;
  if (job.config.data.train.empty()) {
    tokens.emplace(job.config.model.shape.vocab, job.config.data.length, 1);
    job.config.data.train = tokens->path();
  }
  const JobData data = open_data(job.config);
  RunFigures run;
  for (int rank = 0; rank < ranks; ++rank) run.ranks.push_back(count_rank(job, data, rank, run.trained_parameters));
  run.steps = 1;
  run.tokens = job.config.train.batch * job.config.data.length;
  const std::string report = arguments.has("json") ? summary_json(job, run)
                                                   : describe(job, run.trained_parameters, data) + "\n" +
                                                         memory_table(run.ranks) + "\n" + work_table(run.ranks);
  std::fputs(report.c_str(), stdout);
  return 0;
}

}  // namespace lorashard::launch
