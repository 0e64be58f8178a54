// What a tensor is across an axis, and what may meet what. An operation that would mix states wrongly throws: most
// silent errors of sharded training are a partial sum used as a value, or a value summed twice.
#pragma once

#include <string>

namespace lorashard::dist {

enum class ParallelState {
  whole,    // every rank holds the same value
  cut,      // every rank holds its own slice
  partial,  // the value is the sum over ranks
};
const char* name(ParallelState state);

// Throws Failure::other, naming `tensor`, what was expected and what was found.
void expect_state(ParallelState found, ParallelState expected, const std::string& tensor);

}  // namespace lorashard::dist
