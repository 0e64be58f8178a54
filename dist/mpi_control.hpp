// What the communicators that hold an MPI communicator share: it carries the control plane (values in host memory,
// barriers), and every wait on it is told to the watchdog.
#pragma once

#include <mpi.h>

#include "dist/counted_communicator.hpp"
#include "dist/watchdog.hpp"

namespace lorashard::dist {

class MpiControl : public CountedCommunicator {
 public:
  ~MpiControl() override;
  MPI_Comm comm() const { return comm_; }

 protected:
  // Takes over `comm`. `watchdog` may be null.
  MpiControl(kernels::Device& device, std::string axis, MPI_Comm comm, std::shared_ptr<Watchdog> watchdog);
  Watchdog* watchdog() const { return watchdog_.get(); }
  // In force while the scope lives: this thread waits for the peers in `verb`.
  Watchdog::Scope waiting(const char* verb) const { return {watchdog_.get(), verb, axis()}; }
  // Throws Failure::communication for anything but success.
  void require(int mpi_code, const char* verb) const;

 private:
  std::vector<double> move_values(std::span<const double> values) final;
  void move_nothing() final;

  MPI_Comm comm_;
  std::shared_ptr<Watchdog> watchdog_;
};

}  // namespace lorashard::dist
