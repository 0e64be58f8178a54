#include "launch/planned_job.hpp"

#include <filesystem>

#include "core/option_values.hpp"
#include "core/quote.hpp"
#include "launch/synthetic_tokens.hpp"

namespace lorashard::launch {

namespace fs = std::filesystem;
using kernels::fail;
using kernels::Failure;
using kernels::text;

void leave_out_missing_files(core::Config& config) {
  if (!config.model.base.empty() && !fs::exists(config.model.base)) {
    if (config.model.shape.layers == 0)
      fail(Failure::configuration, text("model.base: found ", core::in_quotes(config.model.base),
                                        ", which is not there; expected the file, or model.layers, width, heads, vocab "
                                        "and context to do without it"));
    config.model.base.clear();
  }
  if (!fs::exists(config.data.train)) config.data.train.clear();
  for (const std::string& path : valid_paths(config))
    if (!fs::exists(path)) config.data.valid.clear();
}

PlannedJob::PlannedJob(core::Config config, int ranks) {
  leave_out_missing_files(config);
  job_ = make_job(std::move(config), ranks);
  if (job_.config.data.train.empty()) {
    tokens_ = std::make_unique<SyntheticTokens>(job_.config.model.shape.vocab, job_.config.data.length, 1);
    job_.config.data.train = tokens_->path();
    job_.random_tokens = true;
  }
  data_ = std::make_unique<JobData>(open_data(job_.config));
}

PlannedJob::~PlannedJob() = default;

core::PlanRequest PlannedJob::request() const {
  return {job_.config, job_.extents, job_.target, data_->train, data_->valid};
}

int ranks_option(const Arguments& arguments, const char* option, int otherwise) {
  if (!arguments.has(option)) return otherwise;
  const auto ranks = core::to_whole(arguments.value(option));
  if (!ranks || *ranks < 1 || *ranks > 1'000'000)
    fail(Failure::configuration, text("command line: --", option, ": found ", core::in_quotes(arguments.value(option)),
                                      ", expected a number of ranks"));
  return static_cast<int>(*ranks);
}

int planned_ranks(const core::Config& config, const Arguments& arguments) {
  return ranks_option(arguments, "ranks", config.mesh.tensor * config.mesh.pipeline);
}

namespace {

std::string hardware_file(const std::string& wanted) {
  if (fs::exists(wanted)) return wanted;
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error).parent_path();
  std::string places;
  for (const fs::path& folder : {fs::path("configs/hardware"), program / "../share/lorashard/configs/hardware",
                                 program / "../../configs/hardware"}) {
    const fs::path file = folder / (wanted + ".ini");
    if (fs::exists(file)) return file.lexically_normal();
    places += text(places.empty() ? "" : ", ", file.lexically_normal().string());
  }
  fail(Failure::configuration,
       text("device.hardware: found ", core::in_quotes(wanted), ", expected a file; looked for ", places));
}

}  // namespace

core::Hardware find_machine(const std::string& named) { return core::read_hardware(hardware_file(named)); }

core::Hardware find_hardware(const std::string& named, const std::string& otherwise, int threads) {
  return core::hardware_of_rank(core::read_hardware(hardware_file(named.empty() ? otherwise : named)), threads);
}

core::Hardware find_hardware(const core::Config& config, int ranks) {
  core::Hardware hardware = core::read_hardware(
      hardware_file(config.device.hardware.empty() ? "h100" : config.device.hardware));
  const int cores = static_cast<int>(hardware.multiprocessors), shared = std::max(1, cores / std::max(1, ranks));
  return core::hardware_of_rank(std::move(hardware), config.device.threads > 0 ? config.device.threads : shared);
}

}  // namespace lorashard::launch
