#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <fstream>
#include <iterator>

#include "launch/slurm_job.hpp"

namespace lorashard::launch {

using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

// What this process was started with. MPI adds variables of its own, which sbatch would hand on to the job, and there
// another MPI would take them for its own; GOMP_SPINCOUNT is of bound_thread_spinning.
std::vector<std::string> first_environment() {
  std::ifstream file("/proc/self/environ", std::ios::binary);
  std::vector<std::string> variables;
  for (std::string variable; std::getline(file, variable, '\0');)
    if (!variable.starts_with("GOMP_SPINCOUNT=")) variables.push_back(variable);
  return variables;
}

struct Ended {
  int code = 0;
  std::string output;  // of stdout and stderr
};

Ended run(std::vector<std::string> words) {
  std::vector<std::string> variables = first_environment();
  const auto pointers = [](std::vector<std::string>& texts) {
    std::vector<char*> all;
    for (std::string& each : texts) all.push_back(each.data());
    all.push_back(nullptr);
    return all;
  };
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) fail(Failure::other, text("pipe: ", std::strerror(errno)));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipe[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, pipe[1], STDERR_FILENO);
  pid_t child = -1;
  const int error =
      ::posix_spawnp(&child, words[0].c_str(), &actions, nullptr, pointers(words).data(), pointers(variables).data());
  posix_spawn_file_actions_destroy(&actions);
  ::close(pipe[1]);
  Ended ended;
  char part[4096];
  for (ssize_t got; error == 0 && (got = ::read(pipe[0], part, sizeof part)) > 0;) ended.output.append(part, got);
  ::close(pipe[0]);
  if (error != 0) fail(Failure::configuration, text(words[0], ": cannot be started: ", std::strerror(error)));
  int status = 0;
  ::waitpid(child, &status, 0);
  ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ended;
}

}  // namespace

std::string submit_to_slurm(const std::string& script_path) {
  Ended ended = run({"sbatch", "--parsable", script_path});
  while (!ended.output.empty() && ended.output.back() == '\n') ended.output.pop_back();
  for (std::size_t at; (at = ended.output.find('\n')) != std::string::npos;) ended.output.replace(at, 1, "; ");
  if (ended.code != 0)
    fail(Failure::configuration,
         ended.output.empty() ? text("sbatch: failed with exit code ", ended.code) : ended.output);
  return ended.output;
}

}  // namespace lorashard::launch
