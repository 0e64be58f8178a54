// lorashard export: a base file or a checkpoint's adapters, as other programs read them.
#include "core/export.hpp"

#include <cstdio>

#include "core/hdf5.hpp"
#include "core/quote.hpp"
#include "launch/machine.hpp"
#include "launch/subcommands.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using kernels::fail;
using kernels::Failure;
using kernels::text;

const Syntax& export_syntax() {
  static const Syntax syntax{
      .usage = "lorashard export --from <file.h5> --to <directory> [--base <file.h5>]",
      .about = "Writes a base file as a Hugging Face model directory, or a checkpoint's adapters as a PEFT directory.",
      .options = {{"from", "file", "a base file (also one that merge or full fine-tuning made), or a checkpoint"},
                  {"to", "directory", "where it goes; made when it is not there"},
                  {"base", "file", "of a checkpoint: the base that it was trained on, if it is no longer where its job had it"}}};
  return syntax;
}

int export_files(dist::Runtime& runtime, int argc, char** argv) {
  const Arguments arguments(export_syntax(), argc, argv);
  expect_one_rank(runtime, "export");
  const std::string from = arguments.required("from"), to = arguments.required("to"), base = arguments.value("base");
  const std::string format = core::H5File::open(from).text("/", "format");
  core::ExportReport report;
  if (format.starts_with("lorashard base")) {
    if (!base.empty()) fail(Failure::configuration, text("command line: --base: found for ", from, ", which is a base itself"));
    report = core::export_base(from, to, [terminal = output_is_terminal()](core::Index done, core::Index total) {
      if (!terminal) return;
      std::printf("\r\033[K%lld of %lld tensors", static_cast<long long>(done), static_cast<long long>(total));
      if (done == total) std::printf("\r\033[K");
      std::fflush(stdout);
    });
  } else if (format.starts_with("lorashard checkpoint")) {
    report = core::export_adapter(from, base, to);
  } else {
    fail(Failure::configuration,
         text(from, ": format: found ", core::in_quotes(format), ", expected a base file or a checkpoint"));
  }
  std::printf("%s: %s, %lld tensors in %lld %s, %s\n", to.c_str(), report.kind.c_str(), static_cast<long long>(report.tensors),
              static_cast<long long>(report.files), report.files == 1 ? "file" : "files",
              bytes_text(static_cast<double>(report.bytes)).c_str());
  return 0;
}

}  // namespace lorashard::launch
