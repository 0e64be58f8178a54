// What the communicators that hold an MPI communicator share: it carries the control plane (values in host memory,
// barriers), and every wait on it is noted for the guardian.
#pragma once

#include <mpi.h>

#include "dist/counted_communicator.hpp"
#include "dist/rank_state.hpp"

namespace lorashard::dist {

class MpiControl : public CountedCommunicator {
 public:
  ~MpiControl() override;
  MPI_Comm comm() const { return comm_; }

 protected:
  // Takes over `comm`. `state` may be null.
  MpiControl(kernels::Device& device, std::string axis, MPI_Comm comm, RankState* state);
  RankState* state() const { return state_; }
  Group group() const { return group_; }
  // In force while the scope lives: this rank waits in `verb` for its peers, or for one.
  WaitScope waiting(const char* verb, int peer = -1) const { return {state_, verb, group_, peer}; }
  // Throws Failure::communication for anything but success.
  void require(int mpi_code, const char* verb) const;

 private:
  std::vector<double> move_values(std::span<const double> values) final;
  void move_nothing() final;

  MPI_Comm comm_;
  RankState* const state_;
  const Group group_;
};

}  // namespace lorashard::dist
