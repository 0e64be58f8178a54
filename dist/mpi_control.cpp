#include "dist/mpi_control.hpp"

#include "dist/mpi_communicator.hpp"

namespace lorashard::dist {

using kernels::Failure;
using kernels::text;

namespace {

int rank_in(MPI_Comm comm) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  return rank;
}

int size_of(MPI_Comm comm) {
  int size = 0;
  MPI_Comm_size(comm, &size);
  return size;
}

std::string message_of(int code) {
  char buffer[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, buffer, &length);
  return std::string(buffer, static_cast<std::size_t>(length));
}

}  // namespace

MpiControl::MpiControl(kernels::Device& device, std::string axis, MPI_Comm comm, RankState* state)
    : CountedCommunicator(device, std::move(axis), rank_in(comm), size_of(comm)),
      comm_(comm),
      state_(state),
      group_(group_named(this->axis())) {
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
}

MpiControl::~MpiControl() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (!finalized) MPI_Comm_free(&comm_);
}

void MpiControl::require(int mpi_code, const char* verb) const {
  if (mpi_code != MPI_SUCCESS) kernels::fail(Failure::communication, text(place(verb), ": ", message_of(mpi_code)));
}

std::vector<double> MpiControl::move_values(std::span<const double> values) {
  const WaitScope scope = waiting("gather_values");
  std::vector<double> all(values.size() * static_cast<std::size_t>(size()));
  const int count = static_cast<int>(values.size());
  require(MPI_Allgather(values.data(), count, MPI_DOUBLE, all.data(), count, MPI_DOUBLE, comm_), "gather_values");
  return all;
}

void MpiControl::move_nothing() {
  const WaitScope scope = waiting("barrier");
  require(MPI_Barrier(comm_), "barrier");
}

MPI_Comm mpi_comm(const Communicator& communicator) {
  const auto* control = dynamic_cast<const MpiControl*>(&communicator);
  return control ? control->comm() : MPI_COMM_NULL;
}

}  // namespace lorashard::dist
