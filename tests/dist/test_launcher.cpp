// Which environments of a process that MPI believes to be alone are at fault, and which are not.
#include <gtest/gtest.h>

#include <cstdlib>

#include <map>

#include "dist/launcher.hpp"

namespace lorashard::dist {
namespace {

using Variables = std::map<std::string, std::string>;

LauncherFault fault_of(const Variables& variables, int mpi_size = 1) {
  return launcher_fault(
      [&](const char* name) {
        const auto found = variables.find(name);
        return found == variables.end() ? nullptr : found->second.c_str();
      },
      mpi_size);
}

// As Slurm 22.05 sets them in a task of srun.
Variables task(const std::string& number, const std::string& tasks) {
  return {{"SLURM_JOB_ID", "1"},    {"SLURM_STEP_ID", "0"},          {"SLURM_STEPID", "0"},
          {"SLURM_PROCID", number}, {"SLURM_STEP_NUM_TASKS", tasks}, {"SLURM_NTASKS", tasks}};
}

TEST(Launcher, SrunWithoutPmix) {
  const LauncherFault first = fault_of(task("0", "8"));
  EXPECT_EQ(first.line,
            "started by srun as 8 tasks, but MPI sees 1 rank: use srun --mpi=pmix (srun --mpi=list shows what it has)");
  EXPECT_TRUE(first.speaks);
  const LauncherFault other = fault_of(task("5", "8"));
  EXPECT_EQ(other.line, first.line);
  EXPECT_FALSE(other.speaks);
}

TEST(Launcher, SrunOfOldSlurms) {
  Variables old = task("0", "4");
  old.erase("SLURM_STEP_ID");
  EXPECT_NE(fault_of(old).line, "");
  old.erase("SLURM_STEP_NUM_TASKS");
  EXPECT_NE(fault_of(old).line, "");
  old.erase("SLURM_STEPID");
  EXPECT_EQ(fault_of(old).line, "") << "no step: this is the batch script";
}

TEST(Launcher, SrunThatMpiUnderstood) {
  EXPECT_EQ(fault_of(task("0", "8"), 8).line, "");
  EXPECT_EQ(fault_of(task("0", "8"), 2).line, "") << "a world of two was put together by something that knows";
  EXPECT_EQ(fault_of(task("0", "1")).line, "");
}

// A command of its own inside an sbatch script, as Slurm 22.05 sets them there, and in an interactive step of salloc.
TEST(Launcher, SingleProcessInABatchScript) {
  Variables batch{{"SLURM_JOB_ID", "1"}, {"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}, {"SLURM_NPROCS", "8"}};
  EXPECT_EQ(fault_of(batch).line, "");
  for (const char* own : {"4294967291", "4294967290", "4294967292"}) {
    batch["SLURM_STEP_ID"] = own;
    EXPECT_EQ(fault_of(batch).line, "") << own;
  }
  batch["SLURM_STEP_ID"] = "3";
  EXPECT_NE(fault_of(batch).line, "");
}

TEST(Launcher, AnotherLibrarysMpirun) {
  const Variables open_mpi{{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "0"}};
  EXPECT_NE(fault_of(open_mpi).line.find("started by mpirun as 4 ranks, but MPI sees 1 rank"), std::string::npos);
  EXPECT_TRUE(fault_of(open_mpi).speaks);
  EXPECT_FALSE(fault_of({{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "3"}}).speaks);
  EXPECT_EQ(fault_of(open_mpi, 4).line, "");
  const LauncherFault hydra = fault_of({{"PMI_SIZE", "4"}, {"PMI_RANK", "1"}});
  EXPECT_NE(hydra.line.find("started by mpirun as 4 ranks"), std::string::npos);
  EXPECT_FALSE(hydra.speaks);
}

// mpirun -np 1 inside an allocation: its daemons are a step of srun with a task on each node.
TEST(Launcher, OneRankOfMpirunInsideAStep) {
  Variables rank = task("0", "2");
  EXPECT_NE(fault_of(rank).line, "");
  rank["PMI_SIZE"] = "1";
  EXPECT_EQ(fault_of(rank).line, "");
  rank = task("1", "2");
  rank["OMPI_COMM_WORLD_SIZE"] = "1";
  rank["OMPI_COMM_WORLD_RANK"] = "0";
  EXPECT_EQ(fault_of(rank).line, "");
}

TEST(Launcher, NothingSaidOrNonsense) {
  EXPECT_EQ(fault_of({}).line, "");
  EXPECT_EQ(fault_of({{"OMPI_COMM_WORLD_SIZE", "many"}, {"SLURM_STEP_ID", "0x"}, {"SLURM_PROCID", ""}}).line, "");
}

// What is set for MPI_Init is gone after it, and what the user set stays.
TEST(QuickStart, LeavesNothingBehind) {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMIX_NAMESPACE", "PMI_RANK", "PMI_SIZE"}) ::unsetenv(name);
  ::unsetenv("OMPI_MCA_pml");
  ::setenv("OMPI_MCA_btl", "self,tcp", 1);
  {
    const QuickStart alone;
    EXPECT_STREQ(std::getenv("OMPI_MCA_pml"), "ob1");
    EXPECT_STREQ(std::getenv("OMPI_MCA_btl"), "self,tcp");
  }
  EXPECT_EQ(std::getenv("OMPI_MCA_pml"), nullptr);
  EXPECT_STREQ(std::getenv("OMPI_MCA_btl"), "self,tcp");
  ::setenv("PMIX_RANK", "0", 1);
  {
    const QuickStart ranked;
    EXPECT_EQ(std::getenv("OMPI_MCA_pml"), nullptr) << "a rank among others";
  }
  ::unsetenv("PMIX_RANK");
  ::unsetenv("OMPI_MCA_btl");
}

}  // namespace
}  // namespace lorashard::dist
