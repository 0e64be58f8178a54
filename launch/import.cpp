// lorashard import: a Hugging Face directory, or a model of llama2.c, to a base file.
#include "core/import.hpp"

#include <cstdio>

#include "core/option_values.hpp"
#include "core/quote.hpp"
#include "core/tensor_table.hpp"
#include "launch/machine.hpp"
#include "launch/subcommands.hpp"
#include "launch/units.hpp"

namespace lorashard::launch {

using kernels::DType;
using kernels::fail;
using kernels::Failure;
using kernels::text;

const Syntax& import_syntax() {
  static const Syntax syntax{
      .usage = "lorashard import --from <directory|model.bin> --to <file.h5> [--dtype fp32|bf16]",
      .about = "Makes a base file of a Hugging Face model directory (GPT-2, Llama, Mistral, Qwen 2 and 3) or a llama2.c model, tensor by "
               "tensor.",
      .options = {{"from", "path", "a directory with config.json and model.safetensors (or its shards and their index), or llama2.c's .bin"},
                  {"to", "file", "the base file"},
                  {"dtype", "word", "of the weights kept: fp32 (default) or bf16"}}};
  return syntax;
}

int import(dist::Runtime& runtime, int argc, char** argv) {
  const Arguments arguments(import_syntax(), argc, argv);
  expect_one_rank(runtime, "import");
  const std::string from = arguments.required("from"), to = arguments.required("to");
  const std::string dtype = arguments.value("dtype", "fp32");
  if (dtype != "fp32" && dtype != "bf16")
    fail(Failure::configuration,
         text("command line: --dtype: found ", core::in_quotes(dtype), ", expected fp32 or bf16"));
  const bool terminal = output_is_terminal();
  const core::ImportReport report =
      core::import_base(from, to, dtype == "bf16" ? DType::bf16 : DType::f32, [&](core::Index done, core::Index total) {
        if (!terminal) return;
        std::printf("\r\033[K%lld of %lld tensors", static_cast<long long>(done), static_cast<long long>(total));
        std::fflush(stdout);
      });
  if (terminal) std::printf("\r\033[K");
  const core::ModelShape& shape = report.shape;
  std::printf("%s: %s, %lld layers, width %lld, %lld heads, vocabulary %s, %s parameters as %s, %s, digest %s\n",
              to.c_str(), shape.family.c_str(), static_cast<long long>(shape.layers),
              static_cast<long long>(shape.width), static_cast<long long>(shape.heads), count_text(shape.vocab).c_str(),
              count_text(parameter_count(shape)).c_str(), dtype.c_str(),
              bytes_text(static_cast<double>(report.bytes)).c_str(), report.digest.hex().c_str());
  return 0;
}

}  // namespace lorashard::launch
