// The subcommands: one page each, all called alike. argv[0] is the subcommand's name.
#pragma once

#include <string>

#include "dist/runtime.hpp"
#include "launch/arguments.hpp"

namespace lorashard::launch {

struct Subcommand {
  const char* name;
  const char* summary;
  const Syntax& (*syntax)();
  int (*run)(dist::Runtime& runtime, int argc, char** argv);
};

const Syntax& train_syntax();
int train(dist::Runtime& runtime, int argc, char** argv);
const Syntax& tokenize_syntax();
int tokenize(dist::Runtime& runtime, int argc, char** argv);
const Syntax& import_syntax();
int import(dist::Runtime& runtime, int argc, char** argv);
const Syntax& info_syntax();
int info(dist::Runtime& runtime, int argc, char** argv);
const Syntax& bench_syntax();
int bench(dist::Runtime& runtime, int argc, char** argv);

// Throws Failure::configuration when mpirun started more than one.
void expect_one_rank(const dist::Runtime& runtime, const char* command);

}  // namespace lorashard::launch
