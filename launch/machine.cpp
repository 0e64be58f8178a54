#include "launch/machine.hpp"

#include <mpi.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

namespace lorashard::launch {

int fair_threads() {
  cpu_set_t mine;
  CPU_ZERO(&mine);
  ::sched_getaffinity(0, sizeof mine, &mine);
  MPI_Comm local = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local);
  int size = 1;
  MPI_Comm_size(local, &size);
  std::vector<cpu_set_t> all(static_cast<std::size_t>(size));
  MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all.data(), sizeof mine, MPI_BYTE, local);
  MPI_Comm_free(&local);
  const auto sharers =
      std::count_if(all.begin(), all.end(), [&](const cpu_set_t& other) { return CPU_EQUAL(&mine, &other); });
  return static_cast<int>(std::max<long>(1, CPU_COUNT(&mine) / std::max<long>(1, sharers)));
}

void bound_thread_spinning(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT")) return;
  ::setenv("GOMP_SPINCOUNT", "10000", 1);
  ::execv("/proc/self/exe", argv);  // returns only where it failed: then all goes on as it was
}

kernels::Index peak_resident_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return kernels::Index{usage.ru_maxrss} * 1024;
}

bool output_is_terminal() {
  if (!::isatty(STDOUT_FILENO)) return false;
  if (!std::getenv("OMPI_COMM_WORLD_SIZE")) return true;
  char target[64] = "";
  const std::string output = kernels::text("/proc/", ::getppid(), "/fd/1");
  const ssize_t length = ::readlink(output.c_str(), target, sizeof target - 1);
  return length > 0 && (std::string(target).starts_with("/dev/pts/") || std::string(target).starts_with("/dev/tty"));
}

}  // namespace lorashard::launch
