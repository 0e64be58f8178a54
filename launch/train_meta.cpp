#include "launch/train_meta.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "core/quote.hpp"
#include "core/trainer.hpp"
#include "launch/machine.hpp"
#include "launch/planned_job.hpp"
#include "launch/subcommands.hpp"
#include "launch/summary.hpp"
#include "launch/together.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using core::Index;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

kernels::DeviceKind target_of(const Arguments& arguments) {
  const std::string target = arguments.value("target", "host");
  if (target == "cuda") return kernels::DeviceKind::cuda;
  if (target != "host")
    fail(Failure::configuration,
         text("command line: --target: found ", core::in_quotes(target), ", expected host or cuda"));
  return kernels::DeviceKind::host;
}

// One training step of one rank, and an evaluation when the job has held-out data.
RankFigures count(kernels::Device& device, core::Trainer& trainer, const JobData& data) {
  device.profile().reset();
  trainer.step(data.train);
  RankFigures figures = figures_of(device, trainer.reduced_bytes());
  for (const core::Dataset& set : data.valid) trainer.evaluate(set);
  const RankFigures with_evaluation = figures_of(device, trainer.reduced_bytes());
  figures.peak_bytes = with_evaluation.peak_bytes;
  figures.peak_total_bytes = with_evaluation.peak_total_bytes;
  figures.peak_resident_bytes = 0;  // this process is not that rank
  return figures;
}

RankFigures count_rank(const Job& job, const JobData& data, int rank, Index& trained_parameters) {
  const std::unique_ptr<kernels::Device> device = kernels::make_meta_device(job.target);
  dist::Mesh mesh = dist::make_meta_mesh(*device, job.extents, rank);
  core::Trainer trainer(job.config, *device, mesh);
  trained_parameters = trainer.trained_parameters();
  return count(*device, trainer, data);
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

// Throws when a rank's peaks in the rehearsal are not those of its walk in one process.
void expect_as_planned(const std::vector<core::PlannedRanks>& planned, const std::vector<RankFigures>& rehearsed) {
  for (const core::PlannedRanks& kind : planned)
    for (const int rank : kind.ranks)
      for (int c = 0; c < kernels::kCategoryCount; ++c) {
        const auto found = static_cast<Index>(rehearsed[rank].peak_bytes[c]);
        if (found != kind.peak_bytes[c])
          fail(Failure::other,
               text("rank ", rank, ": found a peak of ", found, " bytes of ", name(static_cast<kernels::Category>(c)),
                    ", expected ", kind.peak_bytes[c], " as planned in one process"));
      }
}

// The ranks that mpirun started, their communicators and the schedule, without memory or arithmetic.
int rehearse(dist::Runtime& runtime, PlannedJob& planned) {
  const Job& job = planned.job();
  const std::unique_ptr<kernels::Device> device = kernels::make_meta_device(job.target);
  dist::Mesh mesh = runtime.make_mesh(*device, job.extents);
  core::Trainer trainer(job.config, *device, mesh);
  RankFigures mine = count(*device, trainer, planned.data());
  mine.peak_resident_bytes = static_cast<double>(peak_resident_bytes());
  std::vector<RankFigures> ranks = gather_figures(mesh.world(), mine);
  double most_resident = 0;
  for (RankFigures& rank : ranks) most_resident = std::max(most_resident, std::exchange(rank.peak_resident_bytes, 0));
  on_first_rank(mesh.world(), [&] {
    expect_as_planned(core::plan_memory(planned.request()), ranks);
    std::fputs(text(describe(job, trainer.trained_parameters(), planned.data()), "\n", memory_table(ranks), "\n",
                    work_table(ranks), "\n", ranks.size(),
                    " processes entered the same verbs in the same order with the same lengths; each one's peaks "
                    "are those planned in one process; a process took up to ",
                    bytes_text(most_resident), "\n")
                   .c_str(),
               stdout);
    return 0.0;
  });
  return 0;
}

}  // namespace

int train_on_meta(dist::Runtime& runtime, const Arguments& arguments) {
  core::Config config = arguments.config();
  const int ranks = runtime.size() > 1 ? runtime.size() : planned_ranks(config, arguments);
  PlannedJob planned(std::move(config), ranks);
  Job& job = planned.job();
  job.target = target_of(arguments);
  if (runtime.size() > 1) return rehearse(runtime, planned);
  const JobData& data = planned.data();
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
