// A build without CUDA: make_cuda_device has refused before anyone asks for this.
#include "dist/nccl_communicator.hpp"

namespace lorashard::dist {

std::unique_ptr<Communicator> make_nccl_communicator(kernels::Device&, std::string axis, MPI_Comm,
                                                     RankState*, bool) {
  kernels::fail(kernels::Failure::configuration, kernels::text("axis ", axis, ": this program was built without NCCL"));
}

std::string nccl_version() { return ""; }

}  // namespace lorashard::dist
