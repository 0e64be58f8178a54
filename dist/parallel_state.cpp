#include "dist/parallel_state.hpp"

#include "kernels/error.hpp"

namespace lorashard::dist {

const char* name(ParallelState state) {
  switch (state) {
    case ParallelState::whole: return "whole";
    case ParallelState::cut: return "cut";
    case ParallelState::partial: return "a partial sum";
  }
  return "unknown";
}

void expect_state(ParallelState found, ParallelState expected, const std::string& tensor) {
  if (found != expected)
    kernels::fail(kernels::Failure::other,
                  kernels::text(tensor, " is ", name(found), " across its group, expected ", name(expected)));
}

}  // namespace lorashard::dist
