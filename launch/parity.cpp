// lorashard parity: the certificate of core/parity.hpp for a job, at its own size or, where that is big, at a small
// one.
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <optional>

#include "core/option_values.hpp"
#include "core/options.hpp"
#include "core/quote.hpp"
#include "core/shrink.hpp"
#include "core/tensor_table.hpp"
#include "core/text_file.hpp"
#include "launch/parity_page.hpp"
#include "launch/planned_job.hpp"
#include "launch/subcommands.hpp"
#include "launch/synthetic_tokens.hpp"
#include "launch/together.hpp"

namespace lorashard::launch {

namespace fs = std::filesystem;
using core::Index;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

// Above it one rank would be busy for minutes, or not hold the model at all.
constexpr Index kBigModel = 20'000'000;  // weights

Index steps_of(const Arguments& arguments) {
  const std::string given = arguments.value("steps", "2");
  const auto steps = core::to_whole(given);
  if (!steps || *steps < 1)
    fail(Failure::configuration,
         text("command line: --steps: found ", core::in_quotes(given), ", expected a whole number of at least 1"));
  return *steps;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  char words[32] = "";
  std::strftime(words, sizeof words, "%Y-%m-%d %H:%M:%S UTC", ::gmtime_r(&now, &parts));
  return words;
}

// The job as given or, unless it is wanted in full, its small likeness. Enough steps that the rate is never 0.
ParityHeader header_of(const Arguments& arguments, const dist::Runtime& runtime) {
  core::Config config = arguments.config();
  if (config.device.kind == kernels::DeviceKind::meta)
    fail(Failure::configuration, "device.kind: found meta, expected host or cuda: there is nothing to compare on meta");
  ParityHeader header;
  header.steps = steps_of(arguments);
  if (!arguments.has("full")) leave_out_missing_files(config);
  header.run = make_job(std::move(config), runtime.size());
  header.asked = header.run.config;
  core::Config& run = header.run.config;
  header.shrunken = !arguments.has("full") && core::parameter_count(run.model.shape) > kBigModel;
  if (header.shrunken) run = core::shrunken(run, header.run.extents);
  run.train.steps = std::max(run.train.steps, header.steps);
  core::check_config(run, runtime.size());
  header.own_data = arguments.has("full") || !run.data.train.empty();
  header.host = runtime.host();
  header.date = utc_now();
  return header;
}

void make_folder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail(Failure::storage, text(path, ": cannot be made: ", error.message()));
}

// On rank 0: the page on standard output, and both files in `folder` unless it is empty.
void publish(const ParityHeader& header, const core::ParityReport& report, const std::string& folder) {
  const std::string page = parity_text(header, report);
  std::fputs(page.c_str(), stdout);
  if (folder.empty()) return;
  make_folder(folder);
  core::write_whole(folder + "/parity.txt", page);
  core::write_whole(folder + "/parity.json", boost::json::serialize(parity_json(header, report)) + "\n");
}

}  // namespace

const Syntax& parity_syntax() {
  static const Syntax syntax{
      .usage = "[mpirun -np N] lorashard parity --config <file> [--full] [--steps n] [--section.key value ...]",
      .about =
          "Runs a few steps of a job on one rank and on its mesh, and holds every loss, gradient, norm and trained "
          "value\n"
          "of the mesh against those of the one rank. A model of more than 20 million weights is compared at a small "
          "size that\nkeeps its structure, on random tokens. Exit code 4 when anything differs by more than rounding.",
      .options = {{"full", "", "the job's own model, base and data, whatever their size; one rank must hold them"},
                  {"steps", "n", "steps to compare; 2 unless given"},
                  {"to", "folder", "for parity.txt and parity.json; run.dir unless given, nowhere without either"}},
      .job_keys = true};
  return syntax;
}

int parity(dist::Runtime& runtime, int argc, char** argv) {
  const Arguments arguments(parity_syntax(), argc, argv);
  ParityHeader header = header_of(arguments, runtime);
  core::Config& config = header.run.config;
  std::optional<SyntheticTokens> tokens;
  if (!header.own_data) {
    tokens.emplace(config.model.shape.vocab, config.data.length, config.train.batch * header.steps);
    config.data.train = tokens->path();
    config.data.valid.clear();
  }
  const std::unique_ptr<kernels::Device> device = make_device(header.run, runtime);
  dist::Mesh mesh = runtime.make_mesh(*device, header.run.extents);
  const std::unique_ptr<dist::Mesh> reference = runtime.make_sub_mesh(*device, {1, 1, 1});
  std::optional<JobData> data;
  together(mesh.world(), [&] { data = open_data(config); });
  verify_base(config, mesh.world(), runtime.place());
  header.hosts = static_cast<int>(sum_of(mesh.world(), runtime.local_rank() == 0 ? 1 : 0));
  const core::ParityReport report = core::run_parity({.config = config,
                                                      .device = *device,
                                                      .mesh = mesh,
                                                      .reference = reference.get(),
                                                      .data = data->train,
                                                      .steps = header.steps,
                                                      .scratch = fs::temp_directory_path()});
  if (!header.own_data) config.data.train.clear();  // a passing name
  const std::string folder = arguments.value("to", header.asked.run.dir);
  on_first_rank(mesh.world(), [&] { return publish(header, report, folder), 0.0; });
  return report.holds ? 0 : static_cast<int>(Failure::numerics);
}

}  // namespace lorashard::launch
