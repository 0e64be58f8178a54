#include "dist/launcher.hpp"

#include <mpi.h>

#include <cstdlib>
#include <utility>

#include "kernels/error.hpp"

namespace lorashard::dist {

using kernels::text;

namespace {

// -1 where it is not set or no number.
long long number_of(const Environment& environment, const char* name) {
  const char* value = environment(name);
  if (!value || *value == '\0') return -1;
  char* end = nullptr;
  const long long number = std::strtoll(value, &end, 10);
  return *end == '\0' ? number : -1;
}

// Slurm numbers the steps of srun from 0; those that it makes itself (batch, extern, interactive) have the last numbers
// of 32 bits (slurm.h, SLURM_BATCH_SCRIPT and its neighbours).
constexpr long long kFirstOwnStep = 0xfffffff0;

struct Started {
  std::string by;  // "srun as 8 tasks"; empty: by none that is known, or alone
  long long process = 0;
};

Started by_mpirun(const Environment& environment, const char* size, const char* rank) {
  const long long count = number_of(environment, size);
  if (count <= 1) return {};
  return {text("mpirun as ", count, " ranks"), number_of(environment, rank)};
}

Started by_srun(const Environment& environment) {
  long long step = number_of(environment, "SLURM_STEP_ID");
  if (step < 0) step = number_of(environment, "SLURM_STEPID");
  const long long process = number_of(environment, "SLURM_PROCID");
  if (step < 0 || step >= kFirstOwnStep || process < 0) return {};
  long long tasks = number_of(environment, "SLURM_STEP_NUM_TASKS");
  if (tasks < 0) tasks = number_of(environment, "SLURM_NTASKS");
  return tasks > 1 ? Started{text("srun as ", tasks, " tasks"), process} : Started{};
}

}  // namespace

LauncherFault launcher_fault(const Environment& environment, int mpi_size) {
  if (mpi_size != 1) return {};
  // mpirun first: on other nodes its daemons, and so its ranks, run inside a step of srun.
  if (environment("OMPI_COMM_WORLD_SIZE")) {
    const Started open_mpi = by_mpirun(environment, "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK");
    if (open_mpi.by.empty()) return {};
    return {text("started by ", open_mpi.by,
                 ", but MPI sees 1 rank: this mpirun is Open MPI's and does not belong to "
                 "the MPI library that the program uses (see ldd, and which mpirun)"),
            open_mpi.process <= 0};
  }
  const bool hydra_alone = number_of(environment, "PMI_SIZE") == 1;  // mpiexec -n 1, its proxy in a step of srun
  const Started srun = hydra_alone ? Started{} : by_srun(environment);
  if (!srun.by.empty())
    return {
        text("started by ", srun.by, ", but MPI sees 1 rank: use srun --mpi=pmix (srun --mpi=list shows what it has)"),
        srun.process == 0};
  const Started hydra = by_mpirun(environment, "PMI_SIZE", "PMI_RANK");
  if (hydra.by.empty()) return {};
  return {text("started by ", hydra.by,
               ", but MPI sees 1 rank: this mpirun is MPICH's or Intel's and does not belong to "
               "the MPI library that the program uses (see ldd, and which mpirun)"),
          hydra.process <= 0};
}

QuickStart::QuickStart() {
  for (const char* place : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMIX_NAMESPACE", "PMI_RANK", "PMI_SIZE"})
    if (std::getenv(place)) return;
  for (const auto& [name, value] : {std::pair("OMPI_MCA_ess_singleton_isolated", "1"), std::pair("OMPI_MCA_pml", "ob1"),
                                    std::pair("OMPI_MCA_btl", "self")})
    if (!std::getenv(name)) {
      ::setenv(name, value, 1);
      set_.push_back(name);
    }
}

QuickStart::~QuickStart() {
  for (const char* name : set_) ::unsetenv(name);
}

void check_launcher(int mpi_size) {
  const LauncherFault fault = launcher_fault([](const char* name) { return std::getenv(name); }, mpi_size);
  if (fault.line.empty()) return;
  MPI_Finalize();
  kernels::fail(kernels::Failure::configuration, fault.speaks ? fault.line : "");
}

}  // namespace lorashard::dist
