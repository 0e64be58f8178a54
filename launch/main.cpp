// lorashard <subcommand> ...: finds the subcommand, starts MPI, and turns an exception into one line and an exit code.
#include <cstdio>
#include <cstring>
#include <vector>

#include "core/option_values.hpp"
#include "core/quote.hpp"
#include "dist/nccl_communicator.hpp"
#include "launch/machine.hpp"
#include "launch/subcommands.hpp"

namespace {

using namespace lorashard;
using kernels::text;

const launch::Subcommand kSubcommands[] = {
    {"train", "run a job: LoRA or full fine-tuning, on any mesh", launch::train_syntax, launch::train},
    {"plan", "say what a job would take, and whether it fits", launch::plan_syntax, launch::plan},
    {"compare", "LoRA beside full fine-tuning of one job, planned or run", launch::compare_syntax, launch::compare},
    {"tokenize", "make a token file of text or JSON lines", launch::tokenize_syntax, launch::tokenize},
    {"import", "make a base file of a Hugging Face directory or a llama2.c model", launch::import_syntax, launch::import},
    {"export", "write a base or a checkpoint's adapters as Hugging Face and PEFT have them", launch::export_syntax,
     launch::export_files},
    {"generate", "complete prompts with a base and an adapter", launch::generate_syntax, launch::generate},
    {"evaluate", "say how well a model predicts, or score what was generated", launch::evaluate_syntax, launch::evaluate},
    {"merge", "add an adapter to the weights of its base", launch::merge_syntax, launch::merge},
    {"unmerge", "give the base of a merged file back, bit for bit", launch::unmerge_syntax, launch::unmerge},
    {"info", "say what a file, a run or a schedule is", launch::info_syntax, launch::info},
    {"launch", "write the batch script of a job from its plan, and submit it", launch::launch_syntax, launch::launch},
    {"check", "compare the nodes of a job before it starts", launch::check_syntax, launch::check},
    {"bench", "time training steps against what the machine can do", launch::bench_syntax, launch::bench},
    {"parity", "certify that a job's mesh computes what one rank computes", launch::parity_syntax, launch::parity},
};

std::string overview() {
  std::string lines = "usage: lorashard <subcommand> [options]\n\n";
  for (const launch::Subcommand& subcommand : kSubcommands) {
    std::string left = text("  ", subcommand.name);
    left.resize(12, ' ');
    lines += left + subcommand.summary + "\n";
  }
  return lines + "\nlorashard <subcommand> --help lists its options. --version prints the version.\n";
}

std::string version() {
  const std::string nccl = dist::nccl_version();
  return text("lorashard ", LORASHARD_VERSION, ", ", kernels::cuda_build(), nccl.empty() ? "" : ", ", nccl);
}

const launch::Subcommand* find_subcommand(const std::string& name) {
  for (const launch::Subcommand& subcommand : kSubcommands)
    if (name == subcommand.name) return &subcommand;
  return nullptr;
}

int refuse(const std::string& line) {
  std::fputs(("lorashard: " + line + "\n").c_str(), stderr);
  return static_cast<int>(kernels::Failure::configuration);
}

int run(const launch::Subcommand& subcommand, int argc, char** argv) try {
  dist::Runtime runtime(argc, argv);
  return dist::run_guarded(runtime, "lorashard", subcommand.run, argc - 1, argv + 1);
} catch (const kernels::Error& error) {  // of the runtime itself, before any rank has a name
  if (*error.what()) std::fputs(text("lorashard: ", error.what(), "\n").c_str(), stderr);
  return static_cast<int>(error.failure());
}

}  // namespace

int main(int argc, char** argv) {
  launch::bound_thread_spinning(argv);
  const std::string first = argc > 1 ? argv[1] : "--help";
  if (first == "--help" || first == "-h" || first == "help") return std::fputs(overview().c_str(), stdout), 0;
  if (first == "--version") return std::puts(version().c_str()), 0;
  const launch::Subcommand* subcommand = find_subcommand(first);
  if (!subcommand) {
    std::vector<std::string> names;
    for (const launch::Subcommand& known : kSubcommands) names.push_back(known.name);
    return refuse(text("command line: unknown subcommand ", core::in_quotes(first), "; the nearest is '",
                       core::nearest(first, names), "'"));
  }
  for (int i = 2; i < argc; ++i)
    if (!std::strcmp(argv[i], "--help") || !std::strcmp(argv[i], "-h"))
      return std::fputs(subcommand->syntax().help().c_str(), stdout), 0;
  return run(*subcommand, argc, argv);
}
