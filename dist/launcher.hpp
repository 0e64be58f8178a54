// Did the launcher and the MPI library find each other? Where they did not, each process believes that it is alone, and
// n of them would do the whole job n times over, on top of each other.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace lorashard::dist {

// The value of a variable, null where it is not set.
using Environment = std::function<const char*(const char* name)>;

struct LauncherFault {
  std::string line;     // empty: all is well
  bool speaks = false;  // this process is the one of them all that should say it
};

// `mpi_size`: the ranks that MPI sees. Only a world of one is ever at fault, and only where the variables say that this
// process was started with others: by srun (a numbered step of several tasks, not the batch or the interactive step,
// where Slurm sets the allocation's task count for a single process), or by an mpirun (Open MPI's, MPICH's, Intel's).
LauncherFault launcher_fault(const Environment& environment, int mpi_size);

// Around MPI_Init: where no launcher has given this process a place among others, Open MPI needs no daemon and no network,
// and starts in a tenth of the time. What the user has set stays; what is set here is gone afterwards, so that nothing
// which this process starts inherits it.
class QuickStart {
 public:
  QuickStart();
  ~QuickStart();
  QuickStart(const QuickStart&) = delete;
  QuickStart& operator=(const QuickStart&) = delete;

 private:
  std::vector<const char*> set_;
};

// launcher_fault() of this process, after MPI_Init. A fault finishes MPI and throws Failure::configuration, with an empty text
// where another process speaks.
void check_launcher(int mpi_size);

}  // namespace lorashard::dist
