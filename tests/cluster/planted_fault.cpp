// Loaded in front of the MPI library (LD_PRELOAD): on the rank and at the call that LORASHARD_FAULT names ("throw,1,500":
// rank 1, its 500th all-to-all, from which the host's sums are made) the program throws, or accesses no memory.
#include <dlfcn.h>
#include <mpi.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

extern "C" int MPI_Alltoall(const void* from, int count, MPI_Datatype type, void* to, int to_count, MPI_Datatype to_type,
                            MPI_Comm comm) {
  static int calls = 0;
  char how[16] = "";
  int where = -1, when = 0, rank = -1;
  const char* const wanted = std::getenv("LORASHARD_FAULT");
  if (wanted && std::sscanf(wanted, "%15[^,],%d,%d", how, &where, &when) == 3) MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank == where && ++calls == when) {
    if (std::string(how) == "throw") throw std::runtime_error("planted");
    *static_cast<volatile int*>(nullptr) = 1;
  }
  using Call = int (*)(const void*, int, MPI_Datatype, void*, int, MPI_Datatype, MPI_Comm);
  static const auto next = reinterpret_cast<Call>(::dlsym(RTLD_NEXT, "MPI_Alltoall"));
  return next(from, count, type, to, to_count, to_type, comm);
}
