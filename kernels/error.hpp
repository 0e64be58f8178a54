// The one exception of the program: what went wrong, where, and which exit code it ends the job with.
#pragma once

#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>

namespace lorashard::kernels {

// Exit codes of the program (listed in the README).
enum class Failure : int {
  other = 1,
  configuration = 2,  // configuration or bad input
  memory = 3,         // does not fit, or out of memory
  numerics = 4,       // NaN or infinity
  communication = 5,  // a collective failed or a peer was lost
  storage = 6,        // a file could not be read or written
  preempted = 7,      // stopped by the system, state saved
};

class Error : public std::runtime_error {
 public:
  Error(Failure failure, const std::string& what, std::source_location where)
      : std::runtime_error(what), failure_(failure), where_(where) {}
  Failure failure() const { return failure_; }
  const std::source_location& where() const { return where_; }

 private:
  Failure failure_;
  std::source_location where_;
};

// text("A is ", 64, "x", 128) -> "A is 64x128".
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// Throws Error. The message names the values on both sides: "A is 64x128, B is 256x32: inner extents differ".
[[noreturn]] inline void fail(Failure failure, const std::string& what,
                              std::source_location where = std::source_location::current()) {
  throw Error(failure, what, where);
}

}  // namespace lorashard::kernels
