// lorashard merge: adapters added to the weights of their base, as a base file of its own.
#include "core/merge.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "core/logit_change.hpp"
#include "core/merged_file.hpp"
#include "core/option_values.hpp"
#include "core/quote.hpp"
#include "core/residual_file.hpp"
#include "core/trainer.hpp"
#include "launch/merge_files.hpp"
#include "launch/option_numbers.hpp"
#include "launch/subcommands.hpp"
#include "launch/together.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using core::Index;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

std::string number_text(double value) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.3g", value);
  return digits;
}

// The job with the adapter beside its base, in the type that the base is stored in: what is merged is what is written.
Job job_of(const Arguments& arguments, int ranks) {
  core::Config config = arguments.config();
  if (config.model.base.empty())
    fail(Failure::configuration, "model.base: missing, expected the base file to merge into");
  if (config.adapter.method != core::Method::lora)
    fail(Failure::configuration, "adapter.method: found full, expected lora: a fully trained model is a base already");
  if (config.device.kind == kernels::DeviceKind::meta)
    fail(Failure::configuration, "device.kind: found meta, expected host or cuda");
  config.adapter.init = arguments.required("adapter");
  config.train.precision = core::dtype_of(core::BaseFile(config.model.base));
  return make_job(std::move(config), ranks);
}

// How the rows given are answered: with the adapter beside the base, then merged.
struct Answers {
  double beside = 0, merged = 0;  // mean losses
  double largest_change = 0;      // of a logit
};

std::string answers_text(const std::string& rows, const Answers& answers, const Job& job) {
  return text("  ", rows, ": largest change of a logit ", number_text(answers.largest_change), ", mean loss ",
              fixed_text(answers.beside, 6), " beside the base, ", fixed_text(answers.merged, 6), " merged (",
              name(job.config.train.precision), ")\n");
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Forward passes over the rows: of the bare base, with the adapter beside it, and merged; in turns, so that what else
// the machine does meets all three; the best of each is what it takes where nothing else runs. The adapter is merged
// before and after. Collective.
std::string time_passes(core::Trainer& trainer, const core::Dataset& rows, Index rounds) {
  std::vector<double> seconds[3];
  const auto pass = [&](int which) {
    const auto start = std::chrono::steady_clock::now();
    trainer.evaluate(rows);
    seconds[which].push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  };
  for (Index round = 0; round <= rounds; ++round) {
    trainer.evaluate(rows);  // what merging left in the caches is nobody's advantage
    pass(2);
    trainer.unmerge();
    trainer.evaluate(rows);
    trainer.skip_adapters(true);
    pass(0);
    trainer.skip_adapters(false);
    pass(1);
    trainer.merge();
    if (round == 0)
      for (auto& of_one : seconds) of_one.clear();  // a warm-up
  }
  std::string lines = "  forward    ";
  const char* const names[] = {"base", "beside", "merged"};
  for (int which : {0, 2, 1}) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < seconds[which].size(); ++i) ratios.push_back(seconds[which][i] / seconds[0][i]);
    const auto [least, most] = std::minmax_element(ratios.begin(), ratios.end());
    const auto best = [&](int of) { return *std::min_element(seconds[of].begin(), seconds[of].end()); };
    lines += text(which == 0 ? "" : "\n             ", names[which], " ", fixed_text(1e3 * median(seconds[which]), 1),
                  " ms, best ", fixed_text(1e3 * best(which), 1), " ms");
    if (which != 0)
      lines += text("; to the base's x ", fixed_text(median(ratios), 3), " (", fixed_text(*least, 3), " to ",
                    fixed_text(*most, 3), "), best to best x ", fixed_text(best(which) / best(0), 3));
  }
  return lines + text("\n             medians of ", rounds, " in turns\n");
}

std::string merged_text(const Job& job, const core::Merge& merge) {
  const core::MergeRounding& r = merge.rounding();
  return text("adapter ", job.config.adapter.init, " merged into ", merge.tensors().size(), " matrices of ",
              job.config.model.base, " as ", name(job.config.train.precision), "\n  rounding: largest error ",
              number_text(r.largest), ", ", fixed_text(r.largest_ulps, 3), " units in the last place; of the update ",
              number_text(100 * r.lost_share()), " % (root mean square) is lost\n");
}

std::optional<core::Dataset> open_rows(const Arguments& arguments, const Job& job) {
  if (!arguments.has("rows")) return std::nullopt;
  core::Config in_order = job.config;
  in_order.data.order = core::Order::sequential;
  return open_tokens(arguments.value("rows"), in_order);
}

// What options ask of each other, and that nothing is written over what is read.
void check(const Arguments& arguments, const Job& job) {
  for (const char* const option : {"time", "residual"}) {
    const char* const beside = std::string(option) == "time" ? "rows" : "to";
    if (arguments.has(option) && !arguments.has(beside))
      fail(Failure::configuration, text("command line: --", option, ": found without --", beside, ", expected both"));
  }
  if (!arguments.has("to") && !arguments.has("rows"))
    fail(Failure::configuration, "command line: found neither --to nor --rows, expected one of them");
  const std::vector<std::string> read{job.config.model.base, job.config.adapter.init, arguments.value("rows")};
  expect_new_file(arguments, "to", read);
  expect_new_file(arguments, "residual", read);
  expect_new_file(arguments, "residual", {arguments.value("to")});
}

std::string write_files(const Arguments& arguments, const Job& job, core::Trainer& trainer, dist::Mesh& mesh,
                        kernels::Place& place) {
  const std::string to = arguments.value("to"), residual = arguments.value("residual");
  const core::Digest digest = trainer.export_merged(to);
  std::string lines =
      text("  ", to, ": ", bytes_text(static_cast<double>(std::filesystem::file_size(to))), ", digest ", digest.hex(),
           " (base ", trainer.base_digest(), ", adapter ", trainer.merged().adapter_digest().hex(), ")\n");
  if (residual.empty()) return lines;
  const kernels::AtPlace work(place.work, "writing the residual");
  const double bytes = on_first_rank(mesh.world(), [&] {
    const core::BaseFile base(job.config.model.base), merged(to);
    return static_cast<double>(core::write_residual(residual, base, merged, [&] { place.beat(); }));
  });
  double weights = 0;
  for (const core::TensorInfo& tensor : trainer.merged().tensors())
    weights += static_cast<double>(tensor.rows * tensor.cols * size_bytes(job.config.train.precision));
  return lines + text("  ", residual, ": ", bytes_text(bytes), ", ", fixed_text(100 * bytes / weights, 1),
                      " % of the matrices that it gives back\n");
}

}  // namespace

const Syntax& merge_syntax() {
  static const Syntax syntax{
      .usage =
          "[mpirun -np N] lorashard merge --config <file> --adapter <path> --to <file.h5> [--section.key value ...]",
      .about =
          "Adds an adapter to the weights of its base: a base file without adapters, that costs what the base costs.",
      .options = {{"adapter", "path", "a checkpoint of this program, a PEFT directory or a loralib .safetensors file"},
                  {"to", "file", "the merged base file; may be left out with --rows"},
                  {"residual", "file", "what rounding took, for unmerge without the base file"},
                  {"rows", "file", "tokens: say how far merging changes their logits and their mean loss"},
                  {"time", "n",
                   "with --rows: time forward passes of base, adapter beside it and merged, n times each in turns"}},
      .job_keys = true};
  return syntax;
}

int merge(dist::Runtime& runtime, int argc, char** argv) {
  const Arguments arguments(merge_syntax(), argc, argv);
  const Job job = job_of(arguments, runtime.size());
  const Index rounds = whole_option(arguments, "time", 1, 1);
  check(arguments, job);
  const std::unique_ptr<kernels::Device> device = make_device(job, runtime);
  dist::Mesh mesh = runtime.make_mesh(*device, job.extents);
  std::optional<core::Dataset> rows;
  together(mesh.world(), [&] {
    core::expect_adapters_alone(job.config.adapter.init);
    rows = open_rows(arguments, job);
  });
  verify_base(job.config, mesh.world(), runtime.place());
  core::Trainer trainer(job.config, *device, mesh);
  core::LogitChange logits(*device);
  Answers answers;
  if (rows) answers.beside = trainer.evaluate(*rows, &logits).loss;
  trainer.merge();
  std::string lines = merged_text(job, trainer.merged());
  if (rows) {
    logits.compare();
    answers.merged = trainer.evaluate(*rows, &logits).loss;
    answers.largest_change = logits.largest(mesh.world());
    lines += answers_text(rows->path(), answers, job);
  }
  if (arguments.has("to")) lines += write_files(arguments, job, trainer, mesh, runtime.place());
  if (arguments.has("time")) lines += time_passes(trainer, *rows, rounds);
  if (mesh.rank() == 0) std::fputs(lines.c_str(), stdout);
  return 0;
}

}  // namespace lorashard::launch
