// What merge and unmerge ask of the names that they are given.
#pragma once

#include <string>
#include <vector>

#include "launch/arguments.hpp"

namespace lorashard::launch {

// Throws Failure::configuration when the file of `option`, if it is given, is one of those that are read or written
// too.
void expect_new_file(const Arguments& arguments, const std::string& option, const std::vector<std::string>& others);

}  // namespace lorashard::launch
