// Calls of the HDF5 library with their results checked: a negative one becomes Failure::storage, one line with the file,
// the object, what was tried and the library's innermost reason.
#pragma once

#include <hdf5.h>

#include <string>

namespace lorashard::core {

// What a message is about. `object` may be empty (the file itself).
struct H5Place {
  const std::string& file;
  const std::string& object;
};

// Before the first call: no exit handler (it would crash or loop over files that a full disk keeps from closing), no
// error printing, no plug-in filters.
void prepare_hdf5();

[[noreturn]] void fail_hdf5(const H5Place& place, const std::string& problem);  // with the library's reason
[[noreturn]] void refuse_hdf5(const H5Place& place, const std::string& problem);  // ours alone

template <class Result>
Result checked(Result result, const H5Place& place, const char* trying) {
  if (result < 0) fail_hdf5(place, trying);
  return result;
}

}  // namespace lorashard::core
