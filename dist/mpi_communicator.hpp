// Verbs over MPI, on host memory.
#pragma once

#include <mpi.h>

#include "dist/communicator.hpp"

namespace lorashard::dist {

// Takes over `comm` (freed by the destructor).
std::unique_ptr<Communicator> make_mpi_communicator(kernels::Device& device, std::string axis, MPI_Comm comm);

// The MPI communicator underneath, for parallel files; MPI_COMM_NULL on a meta communicator.
MPI_Comm mpi_comm(const Communicator& communicator);

}  // namespace lorashard::dist
