// Numbers on the command line of a subcommand.
#pragma once

#include "core/option_values.hpp"
#include "core/quote.hpp"
#include "kernels/error.hpp"
#include "launch/arguments.hpp"

namespace lorashard::launch {

// --option; `otherwise` where it is not given. Throws Failure::configuration for what is no whole number of at least `least`.
inline core::Index whole_option(const Arguments& arguments, const char* option, core::Index otherwise, core::Index least) {
  if (!arguments.has(option)) return otherwise;
  const auto value = core::to_whole(arguments.value(option));
  if (!value || *value < least)
    kernels::fail(kernels::Failure::configuration,
                  kernels::text("command line: --", option, ": found ", core::in_quotes(arguments.value(option)),
                                ", expected a whole number of at least ", least));
  return *value;
}

}  // namespace lorashard::launch
