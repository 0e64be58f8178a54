// lorashard unmerge: a merged base file becomes the base that it was, bit for bit.
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "core/merged_file.hpp"
#include "launch/merge_files.hpp"
#include "launch/subcommands.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using kernels::fail;
using kernels::Failure;
using kernels::text;

void expect_new_file(const Arguments& arguments, const std::string& option, const std::vector<std::string>& others) {
  namespace fs = std::filesystem;
  const std::string path = arguments.value(option);
  if (path.empty()) return;
  for (const std::string& other : others) {
    std::error_code ignored;  // of files that are not there: their names alone count
    if (path == other || fs::equivalent(path, other, ignored))
      fail(Failure::configuration, text("command line: --", option, ": found ", path,
                                        ", which this command reads or writes already, expected another file"));
  }
}

const Syntax& unmerge_syntax() {
  static const Syntax syntax{
      .usage =
          "[mpirun -np N] lorashard unmerge --from <merged.h5> (--base <file.h5> | --residual <file.h5>) --to "
          "<file.h5>",
      .about =
          "Gives the base of a merged file back, bit for bit: its digest is that of the base, or nothing is written.",
      .options = {{"from", "file", "what lorashard merge wrote"},
                  {"base", "file", "the base that it was made of"},
                  {"residual", "file", "or, where that is gone, the residual that merge wrote beside it"},
                  {"to", "file", "the base file"}}};
  return syntax;
}

int unmerge(dist::Runtime& runtime, int argc, char** argv) {
  const Arguments arguments(unmerge_syntax(), argc, argv);
  const core::Unmerging files{arguments.required("from"), arguments.value("base"), arguments.value("residual"),
                              arguments.required("to")};
  if (files.base.empty() == files.residual.empty())
    fail(Failure::configuration, text("command line: found ", files.base.empty() ? "neither" : "both",
                                      " --base and --residual, expected one of them"));
  expect_new_file(arguments, "to", {files.from, files.base, files.residual});
  const std::unique_ptr<kernels::Device> device = kernels::make_host_device(1);
  dist::Mesh mesh = runtime.make_mesh(*device, dist::make_extents(runtime.size(), 1, 1));
  const core::Digest digest = core::unmerge_file(files, mesh.world(), runtime.place());
  if (mesh.rank() == 0)
    std::printf("%s: %s, digest %s, that of the base of %s\n", files.to.c_str(),
                bytes_text(static_cast<double>(std::filesystem::file_size(files.to))).c_str(), digest.hex().c_str(),
                files.from.c_str());
  return 0;
}

}  // namespace lorashard::launch
