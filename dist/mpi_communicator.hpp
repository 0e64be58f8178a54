// Verbs over MPI, on host memory.
#pragma once

#include <mpi.h>

#include "dist/communicator.hpp"
#include "dist/rank_state.hpp"

namespace lorashard::dist {

struct MpiOptions {
  RankState* state = nullptr;             // told of every wait
  Index piece_elements = Index{1} << 30;  // most elements in one MPI call, whose counts are 32 bits wide
};

// Takes over `comm` (freed by the destructor). Sends that are still pending must not outlive the communicator.
std::unique_ptr<Communicator> make_mpi_communicator(kernels::Device& device, std::string axis, MPI_Comm comm,
                                                    MpiOptions options = {});

// The same for a meta device: notes of what is asked move in place of the data, and a rank that asks for anything else
// than its peers throws Failure::communication, naming both.
std::unique_ptr<Communicator> make_rehearsal_communicator(kernels::Device& device, std::string axis, MPI_Comm comm,
                                                          MpiOptions options = {});

// The MPI communicator that carries the control plane, for parallel files: every communicator has one, over NCCL and of
// one rank too, but those of make_meta_communicator (MPI_COMM_NULL).
MPI_Comm mpi_comm(const Communicator& communicator);

}  // namespace lorashard::dist
