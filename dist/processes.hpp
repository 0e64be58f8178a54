// What Linux knows of other processes: the rank that a guardian watches, and what started it.
#pragma once

#include <sys/types.h>

#include <string>

namespace lorashard::dist {

bool is_stopped(pid_t process);
// Open MPI's or PMIx's own: mpirun, or its daemon on another host.
bool is_launcher(pid_t process);
// One write to standard error, so that lines of several processes do not mix.
void print_line(const std::string& line);

// Leaves a process behind that ends `launcher` in `seconds`, unless it has ended by then.
// mpirun that has lost the way to another host waits for it for ever, and does not listen to SIGTERM either.
void end_launcher_later(pid_t launcher, double seconds);

}  // namespace lorashard::dist
