#include "dist/processes.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

#include "kernels/error.hpp"

namespace lorashard::dist {

using kernels::text;

namespace {

// A field of /proc/<pid>/stat, numbered as in proc(5), from 3 on: those behind the name in brackets.
std::string stat_field(pid_t process, int number) {
  std::ifstream file(text("/proc/", process, "/stat"));
  std::string line, field;
  std::getline(file, line);
  std::istringstream fields(line.substr(std::min(line.rfind(')'), line.size() - 1) + 1));
  for (int i = 3; i <= number; ++i) fields >> field;
  return fields ? field : "";
}

std::string birth_of(pid_t process) { return stat_field(process, 22); }

}  // namespace

bool is_stopped(pid_t process) { return stat_field(process, 3) == "T"; }

bool is_launcher(pid_t process) {
  std::string name;
  std::ifstream(text("/proc/", process, "/comm")) >> name;
  const char* const known[] = {"mpirun", "mpiexec", "orterun", "prterun", "orted", "prted"};
  return std::find(std::begin(known), std::end(known), name) != std::end(known);
}

void print_line(const std::string& line) {
  const std::string whole = line + "\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, whole.data(), whole.size());
}

void end_launcher_later(pid_t launcher, double seconds) {
  const std::string born = birth_of(launcher);
  if (::fork() != 0) return;
  ::setsid();
  for (int descriptor = 0; descriptor < 3; ++descriptor) ::close(descriptor);  // its readers wait for their end
  constexpr int kLooks = 50;
  const auto look_us = static_cast<useconds_t>(seconds * 1e6 / kLooks);
  for (int i = 0; i < kLooks && birth_of(launcher) == born; ++i) ::usleep(look_us);
  if (is_launcher(launcher) && birth_of(launcher) == born) ::kill(launcher, SIGKILL);
  ::_exit(0);
}

}  // namespace lorashard::dist
