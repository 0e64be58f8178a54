#include <algorithm>
#include <cmath>

#include "core/option_values.hpp"
#include "core/quote.hpp"
#include "launch/plan_page.hpp"
#include "launch/slurm_job.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using core::Index;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

// A plan is no measurement, and a job that is killed has lost more than one that waited a little longer in the queue.
constexpr double kTimeMargin = 1.5, kStart_s = 600, kMemoryMargin = 1.25;
// Of host memory: what a process holds beyond what it asks for. With CUDA's context and NCCL's buffers it is an
// estimate; without, configs/hardware/host.ini has 203 MiB measured.
constexpr double kProcessOnGpu_bytes = 2 * 0x1p30, kProcess_bytes = 256 * 0x1p20;

// Events after every `every` steps and after the last.
double times(Index steps, Index every) {
  return every > 0 ? std::ceil(static_cast<double>(steps) / static_cast<double>(every)) : 1;
}

PlannedTime planned_time(const PlannedJob& planned, const core::Hardware& hardware, const core::Plan& plan,
                         bool valid_is_missing) {
  const core::Config& config = planned.job().config;
  PlannedTime time;
  time.step_s = plan.time.step_s;
  time.steps_s = time.step_s * static_cast<double>(config.train.steps);
  // Read once for its digests and once to be used.
  time.loading_s = 2 * plan.load_bytes / hardware.storage_bytes_per_s;
  time.checkpoint_s = plan.checkpoint_bytes / hardware.storage_bytes_per_s;
  time.checkpoints_s = time.checkpoint_s * (times(config.train.steps, config.run.checkpoint_every) + 1);
  double rows = 0;
  for (const core::Dataset& set : planned.data().valid) rows += static_cast<double>(set.rows());
  time.evaluations_s = std::ceil(rows / static_cast<double>(config.train.batch)) * time.step_s *
                       (times(config.train.steps, config.train.evaluate_every) + 1);  // and one before the first step
  time.evaluations_unknown = valid_is_missing;
  return time;
}

double node_memory_bytes(const SlurmJob& job, double host_copy_bytes) {
  const double ranks = job.place.per_node;
  const double need = job.on_gpus ? host_copy_bytes + ranks * kProcessOnGpu_bytes : ranks * job.rank_memory_bytes;
  return kMemoryMargin * need;
}

// Of `hardware`: its whole memory or, of a host, a rank's share; "" when all fits.
std::string plan_on_hardware(SlurmJob& job, PlannedJob& planned, core::Hardware hardware, bool valid_is_missing) {
  hardware.cards_per_node = job.place.per_node;  // links between nodes begin where the placement says
  const double host_memory_bytes = hardware.host_memory_bytes;
  hardware = core::hardware_of_rank(std::move(hardware), job.place.cpus);
  const core::Plan plan = core::plan_job(planned.request(), hardware);
  job.rank_memory_bytes = plan.peak_bytes_per_rank;
  job.time = planned_time(planned, hardware, plan, valid_is_missing);
  // A tensor on its way while loading, the state while it is saved: never both.
  job.node_memory_bytes = node_memory_bytes(job, std::max(plan.host_copy_bytes, plan.saved_copy_bytes));
  std::string misfit;
  if (!plan.fits()) {
    misfit = verdict_text(hardware, plan);
    misfit.pop_back();  // the line's end
  } else if (job.on_gpus && job.node_memory_bytes > host_memory_bytes) {
    misfit = text("does not fit: ", job.place.per_node, " ranks need ", bytes_text(job.node_memory_bytes),
                  " of host memory, a node of ", hardware.name, " has ", bytes_text(host_memory_bytes));
  }
  job.hardware = std::move(hardware);
  return misfit;
}

void plan_memory_alone(SlurmJob& job, const PlannedJob& planned) {
  double copy_bytes = 0, peak_bytes = 0;
  for (const core::PlannedRanks& kind : core::plan_memory(planned.request())) {
    copy_bytes = std::max(copy_bytes, static_cast<double>(std::max(kind.host_copy_bytes, kind.saved_copy_bytes)));
    const core::Index copied = job.on_gpus ? 0 : kind.saved_copy_bytes;
    peak_bytes = std::max(peak_bytes, static_cast<double>(kind.peak_total_bytes + copied));
  }
  job.rank_memory_bytes = peak_bytes + (job.on_gpus ? 0 : kProcess_bytes);
  job.node_memory_bytes = node_memory_bytes(job, copy_bytes * job.place.per_node);
}

void set_limit(SlurmJob& job, const Arguments& arguments) {
  job.limit =
      arguments.has("time") ? arguments.value("time") : slurm_time(kStart_s + kTimeMargin * job.time->together_s());
  job.limit_s = *slurm_seconds(job.limit);
}

}  // namespace

SlurmJob plan_slurm_job(const Arguments& arguments, std::string& misfit) {
  core::Config config = arguments.config();
  passed_on(arguments);  // wrong ones are refused before anything is planned
  if (arguments.has("time") && !slurm_seconds(arguments.value("time")))
    fail(Failure::configuration, text("command line: --time: found ", core::in_quotes(arguments.value("time")),
                                      ", expected minutes, H:MM:SS or D-HH:MM:SS"));
  if (config.device.hardware.empty() && !arguments.has("time"))
    fail(Failure::configuration, "command line: --time: missing, expected it, or device.hardware to plan the time");
  std::optional<core::Hardware> hardware;
  if (!config.device.hardware.empty()) hardware = find_machine(config.device.hardware);
  SlurmJob job;
  job.place = place_ranks(config, arguments, hardware ? &*hardware : nullptr);
  job.on_gpus = config.device.kind == kernels::DeviceKind::cuda;
  job.steps = config.train.steps;
  const bool wants_valid = !config.data.valid.empty();
  PlannedJob planned(std::move(config), job.place.ranks);
  planned.job().target = planned.job().config.device.kind;
  planned.job().config.device.kind = kernels::DeviceKind::meta;
  job.mesh = to_string(planned.job().extents);
  const bool valid_is_missing = wants_valid && planned.data().valid.empty();
  misfit.clear();
  if (hardware)
    misfit = plan_on_hardware(job, planned, std::move(*hardware), valid_is_missing);
  else
    plan_memory_alone(job, planned);
  set_limit(job, arguments);
  return job;
}

std::optional<long> slurm_seconds(const std::string& limit) {
  if (limit == "UNLIMITED" || limit == "INFINITE") return 0;
  const std::size_t dash = limit.find('-');
  std::vector<long> parts;
  const auto whole = [](const std::string& digits) -> std::optional<long> {
    if (digits.empty() || digits.size() > 6 || digits.find_first_not_of("0123456789") != digits.npos) return {};
    return std::stol(digits);
  };
  for (std::size_t from = dash == limit.npos ? 0 : dash + 1, colon; from <= limit.size(); from = colon + 1) {
    colon = std::min(limit.find(':', from), limit.size());
    const auto part = whole(limit.substr(from, colon - from));
    if (!part) return {};
    parts.push_back(*part);
  }
  if (parts.size() > 3) return {};
  if (dash != limit.npos) {  // days-hours[:minutes[:seconds]]
    const auto days = whole(limit.substr(0, dash));
    parts.resize(3);
    return days ? std::optional<long>(*days * 86400 + parts[0] * 3600 + parts[1] * 60 + parts[2]) : std::nullopt;
  }
  if (parts.size() == 3) return parts[0] * 3600 + parts[1] * 60 + parts[2];
  return parts.size() == 2 ? parts[0] * 60 + parts[1] : parts[0] * 60;
}

std::string slurm_time(double seconds) {
  const long minutes = static_cast<long>(std::ceil(std::min(seconds, 1e9) / 60)), days = minutes / 1440;
  char words[64];
  std::snprintf(words, sizeof words, "%02ld:%02ld:00", minutes / 60 % 24, minutes % 60);
  return days > 0 ? text(days, "-", words) : words;
}

}  // namespace lorashard::launch
