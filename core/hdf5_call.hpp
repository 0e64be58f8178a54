// Calls of the HDF5 library with their results checked: a negative one becomes Failure::storage, one line with the
// file, the object, what was tried and the library's innermost reason.
#pragma once

#include <hdf5.h>

#include <string>

#include "kernels/error.hpp"

namespace lorashard::core {

// What a message is about. `object` may be empty (the file itself).
struct H5Place {
  const std::string& file;
  const std::string& object;
};

// "<place>: cannot <trying>: <the library's reason>".
[[noreturn]] void fail_hdf5(const H5Place& place, const char* trying);
// "<place>: <problem>", for what only this program objects to.
[[noreturn]] void refuse_hdf5(const H5Place& place, const std::string& problem);
template <class... Parts>
[[noreturn]] void refuse_hdf5(const H5Place& place, const Parts&... problem) {
  refuse_hdf5(place, kernels::text(problem...));
}

template <class Result>
Result checked(Result result, const H5Place& place, const char* trying) {
  if (result < 0) fail_hdf5(place, trying);
  return result;
}

}  // namespace lorashard::core
