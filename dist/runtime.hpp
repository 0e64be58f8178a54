// Starts and ends MPI, finds this process among its peers, and ends the whole job on an error.
#pragma once

#include <exception>
#include <memory>
#include <string>

#include "dist/mesh.hpp"

namespace lorashard::dist {

class Runtime;

// Runs `body` and returns its exit code. An exception on any rank is printed once with rank, host and place, and the
// whole job ends with the exception's exit code (MPI_Abort when there are peers). Bad input that every rank sees alike
// (Failure::configuration) is printed by rank 0 alone: one clear line.
int run_guarded(Runtime& runtime, const char* program, int (*body)(Runtime&, int, char**), int argc, char** argv);

// One per process, made first in main: it forks the rank's guardian (dist/guardian.hpp). Works without mpirun too (a
// world of one).
class Runtime {
 public:
  // Throws Failure::configuration for a LORASHARD_WATCHDOG_S that is no number of seconds, before anything is started, and
  // for a launcher that MPI did not find (dist/launcher.hpp).
  Runtime(int& argc, char**& argv);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  int rank() const;
  int size() const;
  int local_rank() const;  // among the ranks of this host
  int local_size() const;
  const std::string& host() const;
  // Where this rank's program is, for those that watch it. Devices with a mesh write it too.
  kernels::Place& place();
  // From now on a rank that does nothing for `limit_s` seconds hangs, and ends the job; 0: the ten minutes that are the
  // rule among several ranks, for ever on one. LORASHARD_WATCHDOG_S wins.
  void expect_progress_within(double limit_s);
  // gpu_of() this process.
  int gpu(int gpu_count, bool oversubscribe) const;

  // Communicators of `extents` (whose ranks() must equal the communicator's size) that move memory of `device`: over
  // MPI on the host, over NCCL on cuda; on a meta device notes of what is asked. Collective over all ranks.
  Mesh make_mesh(kernels::Device& device, MeshExtents extents);
  // The same over the first extents.ranks() ranks of the world; the others get nullptr. Collective over all ranks.
  // For tests that run many meshes in one job.
  std::unique_ptr<Mesh> make_sub_mesh(kernels::Device& device, MeshExtents extents);

 private:
  friend int run_guarded(Runtime&, const char*, int (*)(Runtime&, int, char**), int, char**);
  void meet_peers();
  // True on the one rank that is to say why the job ends.
  bool claim_ending(kernels::Failure failure) const;

  struct State;
  std::unique_ptr<State> state_;
};

// Which of its host's GPUs a rank takes: that of its local rank. More local ranks than GPUs throw
// Failure::configuration unless they are asked to share (a launcher that shows each rank nothing but a GPU of its own,
// as Slurm does with
// --gpus-per-task, needs that too: to the rank it is number 0 of 1). NCCL itself refuses two ranks of one group on one
// GPU. Without any GPU it is 0, and make_cuda_device says why there is none.
int gpu_of(int local_rank, int local_size, int gpu_count, bool oversubscribe, const std::string& host);

}  // namespace lorashard::dist
