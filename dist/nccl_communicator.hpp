// Verbs over NCCL, on the memory of a cuda device. A build without CUDA has not_built.cpp instead.
#pragma once

#include <mpi.h>

#include "dist/communicator.hpp"
#include "dist/rank_state.hpp"

namespace lorashard::dist {

// Takes over `comm`, which carries NCCL's bootstrap and the control plane (gather_values, barrier). Collective over it.
// `point_to_point`: send and receive will be asked for (the pipeline axis), which have a NCCL communicator for every
// directed pair of neighbours and direction. Throws Failure::communication, naming the axis and the rank.
std::unique_ptr<Communicator> make_nccl_communicator(kernels::Device& device, std::string axis, MPI_Comm comm,
                                                     RankState* state, bool point_to_point);

// "NCCL 2.27.3", or "" when it is not built in.
std::string nccl_version();

}  // namespace lorashard::dist
