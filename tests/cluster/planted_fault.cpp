// Loaded in front of the MPI library (LD_PRELOAD): on the rank and at the call that LORASHARD_FAULT names ("throw,1,500":
// rank 1, its 500th all-to-all, from which the host's sums are made) the program throws ("throw"), accesses what is no
// memory ("crash"), or finds no more of it from there on ("memory": its limit is what it has, and nothing of that is free).
#include <dlfcn.h>
#include <mpi.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

static void take_all_memory() {
  long pages = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%ld", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  const rlimit limit{static_cast<rlim_t>(pages) * 4096, RLIM_INFINITY};
  ::setrlimit(RLIMIT_AS, &limit);
  for (std::size_t bytes = std::size_t{1} << 20; bytes >= 16; bytes /= 2)
    while (static_cast<void* volatile>(std::malloc(bytes))) {
    }
}

extern "C" int MPI_Alltoall(const void* from, int count, MPI_Datatype type, void* to, int to_count, MPI_Datatype to_type,
                            MPI_Comm comm) {
  static int calls = 0;
  char how[16] = "";
  int where = -1, when = 0, rank = -1;
  const char* const wanted = std::getenv("LORASHARD_FAULT");
  if (wanted && std::sscanf(wanted, "%15[^,],%d,%d", how, &where, &when) == 3) MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank == where && ++calls == when) {
    if (std::string(how) == "throw") throw std::runtime_error("planted");
    if (std::string(how) == "crash") *static_cast<volatile int*>(nullptr) = 1;
    if (std::string(how) == "memory") take_all_memory();
  }
  using Call = int (*)(const void*, int, MPI_Datatype, void*, int, MPI_Datatype, MPI_Comm);
  static const auto next = reinterpret_cast<Call>(::dlsym(RTLD_NEXT, "MPI_Alltoall"));
  return next(from, count, type, to, to_count, to_type, comm);
}
