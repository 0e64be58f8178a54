// lorashard bench: training steps of a model of random weights on random tokens, timed.
#include <algorithm>
#include <cstdio>
#include <optional>

#include "core/option_values.hpp"
#include "core/quote.hpp"
#include "core/tensor_table.hpp"
#include "core/text_file.hpp"
#include "core/trainer.hpp"
#include "kernels/ceiling.hpp"
#include "launch/ceiling.hpp"
#include "launch/job.hpp"
#include "launch/machine.hpp"
#include "launch/measure_hardware.hpp"
#include "launch/option_numbers.hpp"
#include "launch/planned_job.hpp"
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

// Radford et al. 2019 (table 2) and Brown et al. 2020 (table 2.1). All have Brown's or Radford's vocabulary of 50257.
struct NamedModel {
  const char* name;
  Index layers, width, heads, context;
};
// 1.3b has 16 heads of 128 where Brown's table says 24.
constexpr NamedModel kModels[] = {{"124m", 12, 768, 12, 1024},  {"355m", 24, 1024, 16, 1024},
                                  {"774m", 36, 1280, 20, 1024}, {"1.3b", 24, 2048, 16, 2048},
                                  {"1.5b", 48, 1600, 25, 1024}, {"6.7b", 32, 4096, 32, 2048},
                                  {"175b", 96, 12288, 96, 2048}};

void set_model(core::Config& config, const std::string& wanted) {
  std::string names;
  for (const NamedModel& model : kModels) {
    names += text(names.empty() ? "" : ", ", model.name);
    if (wanted != model.name) continue;
    core::ModelShape& shape = config.model.shape;
    shape.layers = model.layers;
    shape.width = model.width;
    shape.heads = model.heads;
    shape.context = model.context;
    shape.vocab = 50257;
    return;
  }
  fail(Failure::configuration,
       text("command line: --model: found ", core::in_quotes(wanted), ", expected one of ", names));
}

std::string ceiling_text(const Ceiling& ceiling, double step_s) {
  return text("ceiling     ", ceiling.library, " alone would take ", fixed_text(ceiling.library_s, 2), " s for these products, of ",
              fixed_text(ceiling.product_s, 2), " s taken: share of the ceiling ", fixed_text(ceiling.share(), 3),
              " in the products, ", fixed_text(ceiling.library_s / step_s, 3), " over the whole step\n");
}

// Work that the model asks for, however it is computed: 2 FLOPs a parameter and token forward, 2 for the gradients of
// activations, and 2 for those of weights where every weight is trained. Attention and recomputation do not count.
std::string model_text(kernels::Device& device, const Job& job, double tokens_per_s) {
  const bool full = job.config.adapter.method == core::Method::full;
  const double n = core::multiplied_parameters(job.config.model.shape), factor = full ? 6 : 4;
  const double tflops = factor * n * tokens_per_s / job.extents.ranks() / 1e12;
  const Index side = device.kind() == kernels::DeviceKind::cuda ? 8192 : 1024;
  const double peak = 1e-3 * kernels::library_gflops(device, side, side, side, job.config.train.precision);
  return text("model       ", fixed_text(tflops, tflops < 1 ? 4 : 1), " TFLOP/s a rank by ", full ? "6N" : "4N", " with N = ",
              count_text(static_cast<Index>(n)), "; ", fixed_text(100 * tflops / peak, 1), " % of the ",
              fixed_text(peak, peak < 1 ? 4 : 1), " that ", kernels::library_name(device), " reaches at ", side, " x ", side,
              " x ", side, " ", name(job.config.train.precision), "\n");
}

int write_hardware(dist::Runtime& runtime, const Arguments& arguments) {
  const int asked = arguments.config().device.threads, threads = asked > 0 ? asked : fair_threads();
  const std::unique_ptr<kernels::Device> device = kernels::make_host_device(threads);
  const std::string path = arguments.value("write-hardware"), measured = measure_hardware(runtime, *device, threads);
  if (runtime.rank() != 0) return 0;
  core::write_whole(path, measured);
  core::read_hardware(path);  // or a figure is none
  std::printf("%s: measured\n", path.c_str());
  return 0;
}

}  // namespace

const Syntax& bench_syntax() {
  static const Syntax syntax{
      .usage = "[mpirun -np N] lorashard bench [--model 124m] [--config <file>] [--section.key value ...]",
      .about = "Times training steps on random tokens and says what share of the machine's speed they reach.",
      .options = {{"model", "name", "124m, 355m, 774m, 1.3b, 1.5b, 6.7b or 175b, unless model.layers or model.base is given"},
                  {"steps", "n", "timed; 8 unless given"},
                  {"warm-up", "n", "steps before those; 2 unless given"},
                  {"write-hardware", "file", "measure this host for plan --device.hardware, with at least 2 ranks"}},
      .job_keys = true};
  return syntax;
}

int bench(dist::Runtime& runtime, int argc, char** argv) {
  const Arguments arguments(bench_syntax(), argc, argv);
  if (arguments.has("write-hardware")) return write_hardware(runtime, arguments);
  core::Config config = arguments.config();
  if (config.model.base.empty() && config.model.shape.layers == 0) set_model(config, arguments.value("model", "124m"));
  const Index warm_up = whole_option(arguments, "warm-up", 2, 0), timed = whole_option(arguments, "steps", 8, 1);
  config.train.steps = warm_up + timed;
  config.optimizer.warmup = 0;
  Job job = make_job(std::move(config), runtime.size());
  const SyntheticTokens tokens(job.config.model.shape.vocab, job.config.data.length, job.config.train.batch);
  job.config.data.train = tokens.path();
  job.config.data.valid.clear();
  const JobData data = open_data(job.config);
  const std::unique_ptr<kernels::Device> device = make_device(job, runtime);
  dist::Mesh mesh = runtime.make_mesh(*device, job.extents);
  core::Trainer trainer(job.config, *device, mesh);
  const bool speaks = mesh.rank() == 0;
  if (speaks) std::fputs(describe(job, trainer.trained_parameters(), data).c_str(), stdout);

  for (Index step = 0; step < warm_up; ++step) trainer.step(data.train);
  device->profile().reset();
  std::vector<double> seconds;
  RunFigures run;
  auto start = std::chrono::steady_clock::now();
  for (Index step = 0; step < timed; ++step) {
    if (trainer.under_way() == 0) trainer.begin(data.train);
    // As in a run: a device with a queue has the next step before this one is reported.
    if (device->kind() == kernels::DeviceKind::cuda && step + 1 < timed) trainer.begin(data.train);
    run.tokens += trainer.finish().tokens;
    const auto end = std::chrono::steady_clock::now();
    seconds.push_back(std::chrono::duration<double>(end - start).count());
    run.step_s += seconds.back();
    start = end;
  }
  run.steps = timed;
  run.ranks = gather_figures(mesh.world(), figures_of(*device, trainer.reduced_bytes()));
  const Ceiling ceiling = measure_ceiling(*device, 1.0);
  const std::string model = model_text(*device, job, static_cast<double>(run.tokens) / run.step_s);
  if (!speaks) return 0;
  std::sort(seconds.begin(), seconds.end());
  const double tokens_a_step = static_cast<double>(run.tokens) / static_cast<double>(timed);
  std::printf("%s", speed_text(run).c_str());
  if (ceiling.product_s > 0)
    std::printf("\n%s\n%s", ceiling_table(ceiling, timed).c_str(), ceiling_text(ceiling, run.step_s).c_str());
  std::fputs(model.c_str(), stdout);
  std::printf("median step %.3f s: %s tokens/s; best %.3f s\n", seconds[seconds.size() / 2],
              count_text(static_cast<Index>(tokens_a_step / seconds[seconds.size() / 2])).c_str(), seconds.front());
  return 0;
}

}  // namespace lorashard::launch
