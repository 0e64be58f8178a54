// lorashard info: what a file, a run directory or a pipeline schedule is.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "core/base_file.hpp"
#include "core/option_values.hpp"
#include "core/quote.hpp"
#include "launch/info_adapters.hpp"
#include "launch/subcommands.hpp"
#include "launch/summary.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using core::Index;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

std::string describe_base(const std::string& path) {
  const core::BaseFile base(path);
  base.verify();
  const core::ModelShape& s = base.shape();
  const auto& merged = base.merged_from();
  return text(path, ": base\n", "  family ", s.family, ", ", s.layers, " layers, width ", s.width, ", ", s.heads,
              " heads (", s.kv_heads, " key/value), feed-forward ", s.ffn, ", vocabulary ", s.vocab, ", context ",
              s.context, ", ", s.tied_head ? "tied" : "own", " head\n  ", count_text(parameter_count(s)),
              " parameters as ", name(base.dtype(core::tensor_table(s).front())), "\n  digest ", base.digest().hex(),
              "\n  whole: the digests of all ", core::tensor_table(s).size(), " tensors agree\n",
              merged ? text("  merged from base ", merged->base, " and adapter ", merged->adapter, "\n") : "");
}

std::string describe_tokens(const core::H5File& file) {
  const Index documents = file.array_length("/offsets") - 1;
  return text(file.path(), ": tokens\n  kind ", file.text("/", "kind"), ", tokenizer ", file.text("/", "tokenizer"),
              ", vocabulary ", file.integer("/", "vocab"), "\n  ", count_text(documents), " documents, ",
              count_text(file.array_length("/tokens")), " tokens", file.exists("/labels") ? ", some unscored" : "",
              "\n");
}

std::string describe_file(const std::string& path, const std::string& base) {
  if (path.ends_with(".safetensors") || path.ends_with(".safetensors.index.json"))
    return describe_safetensors(path, base);
  const core::H5File file = core::H5File::open(path);
  const std::string format = file.text("/", "format");
  if (format.starts_with("lorashard base")) return describe_base(path);
  if (format.starts_with("lorashard checkpoint")) return describe_checkpoint(path, base);
  if (format.starts_with("lorashard tokens")) return describe_tokens(file);
  fail(Failure::configuration, text(path, ": format: found ", core::in_quotes(format), ", expected a lorashard file"));
}

// A run directory: its newest checkpoint, and its figures when it is finished.
std::string describe_path(const std::string& path, const std::string& base) {
  namespace fs = std::filesystem;
  std::error_code none;
  if (!fs::is_directory(path, none)) return describe_file(path, base);
  if (fs::exists(path + "/adapter_config.json", none)) return describe_peft(path, base);
  std::string lines, newest;
  std::error_code error;  // no such folder: no checkpoint yet
  for (const fs::directory_entry& entry : fs::directory_iterator(path + "/checkpoints", error))
    if (entry.path().extension() == ".h5") newest = std::max(newest, entry.path().string());
  if (fs::exists(path + "/summary.json")) lines += comparison_table({path}) + "\n" + against_plan_text_of(path);
  return lines + (newest.empty() ? path + ": no checkpoint yet\n" : describe_file(newest, base));
}

std::string describe_schedule(const Arguments& arguments) {
  const core::Config config = arguments.config();
  const auto microbatches = core::to_whole(arguments.value("microbatches", "8"));
  if (!microbatches || *microbatches < 1 || *microbatches > 1024)
    fail(Failure::configuration,
         text("command line: --microbatches: found ", core::in_quotes(arguments.value("microbatches")),
              ", expected a whole number from 1 to 1024"));
  const dist::ScheduleShape shape{config.mesh.schedule, config.mesh.pipeline, static_cast<int>(*microbatches),
                                  config.mesh.chunks};
  return dist::print_schedule(shape);
}

}  // namespace

const Syntax& info_syntax() {
  static const Syntax syntax{
      .usage =
          "lorashard info <file or directory> ... [--base <file.h5>] | --table <run directory> ... | --schedule "
          "--mesh.pipeline <n>",
      .about = "Says what is in a file, a run or a PEFT adapter; of bases and adapters also whether they are whole.",
      .options = {{"base", "file", "the base that the adapters must belong to"},
                  {"table", "", "finished runs side by side"},
                  {"schedule", "", "the pipeline's order of work: F forward, B backward, one line a stage"},
                  {"microbatches", "n", "of the schedule; 8 unless given"}},
      .job_keys = true,
      .words = true};
  return syntax;
}

int info(dist::Runtime& runtime, int argc, char** argv) {
  const Arguments arguments(info_syntax(), argc, argv);
  expect_one_rank(runtime, "info");
  std::string lines;
  if (arguments.has("schedule")) {
    lines = describe_schedule(arguments);
  } else if (arguments.has("table")) {
    lines = comparison_table(arguments.words());
  } else if (arguments.words().empty()) {
    fail(Failure::configuration, "command line: found nothing to describe; see lorashard info --help");
  }
  if (!arguments.has("table"))
    for (const std::string& path : arguments.words()) lines += describe_path(path, arguments.value("base"));
  std::fputs(lines.c_str(), stdout);
  return 0;
}

}  // namespace lorashard::launch
