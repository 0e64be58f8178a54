// A small reader of safetensors files for the tests: F32 and F64 of trusted files, read whole. Independent of
// core/safetensors on purpose, so that a mistake there cannot hide.
#pragma once

#include <map>
#include <string>

#include "tests/oracle/array.hpp"

namespace lorashard::oracle {

// Every floating tensor of the file; a vector becomes one row, more than two axes fold into rows.
// Throws std::runtime_error naming the file.
std::map<std::string, Array> read_tensor_file(const std::string& path);

}  // namespace lorashard::oracle
