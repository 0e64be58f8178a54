// The subcommands: one page each, all called alike. argv[0] is the subcommand's name.
#pragma once

#include <string>

#include "dist/runtime.hpp"
#include "launch/arguments.hpp"
#include "launch/job.hpp"

namespace lorashard::launch {

struct Subcommand {
  const char* name;
  const char* summary;
  const Syntax& (*syntax)();
  int (*run)(dist::Runtime& runtime, int argc, char** argv);
};

const Syntax& train_syntax();
int train(dist::Runtime& runtime, int argc, char** argv);
// A job from its data to its result, in run.dir. Collective; the exit code.
int run_job(dist::Runtime& runtime, const Job& job);
const Syntax& compare_syntax();
int compare(dist::Runtime& runtime, int argc, char** argv);
const Syntax& tokenize_syntax();
int tokenize(dist::Runtime& runtime, int argc, char** argv);
const Syntax& import_syntax();
int import(dist::Runtime& runtime, int argc, char** argv);
const Syntax& export_syntax();
int export_files(dist::Runtime& runtime, int argc, char** argv);
const Syntax& generate_syntax();
int generate(dist::Runtime& runtime, int argc, char** argv);
const Syntax& evaluate_syntax();
int evaluate(dist::Runtime& runtime, int argc, char** argv);
const Syntax& info_syntax();
int info(dist::Runtime& runtime, int argc, char** argv);
const Syntax& plan_syntax();
int plan(dist::Runtime& runtime, int argc, char** argv);
const Syntax& bench_syntax();
int bench(dist::Runtime& runtime, int argc, char** argv);
const Syntax& parity_syntax();
int parity(dist::Runtime& runtime, int argc, char** argv);
const Syntax& merge_syntax();
int merge(dist::Runtime& runtime, int argc, char** argv);
const Syntax& unmerge_syntax();
int unmerge(dist::Runtime& runtime, int argc, char** argv);
const Syntax& check_syntax();
int check(dist::Runtime& runtime, int argc, char** argv);
const Syntax& launch_syntax();
int launch(dist::Runtime& runtime, int argc, char** argv);

// Throws Failure::configuration when mpirun started more than one.
void expect_one_rank(const dist::Runtime& runtime, const char* command);

}  // namespace lorashard::launch
