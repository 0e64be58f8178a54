// What tests of communicators over MPI share.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "dist/mpi_communicator.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::dist {

// Small extents take one MPI call per verb; pieces of 5 elements take the path of messages beyond 2^31 elements.
class Verbs : public testing::TestWithParam<Index> {
 protected:
  void SetUp() override {
    MPI_Comm comm = MPI_COMM_NULL;
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    group_ = make_mpi_communicator(*device_, "test", comm, {.piece_elements = GetParam()});
  }
  int rank() const { return group_->rank(); }
  int size() const { return group_->size(); }
  static std::byte* bytes(std::vector<double>& values) { return reinterpret_cast<std::byte*>(values.data()); }
  static Matrix doubles(std::vector<double>& values) {
    return {bytes(values), kernels::DType::f64, 1, std::ssize(values), std::ssize(values)};
  }
  // Sum of 1 ... n.
  static Index triangle(Index n) { return n * (n + 1) / 2; }

  std::unique_ptr<kernels::Device> device_ = kernels::make_host_device(1);
  std::unique_ptr<Communicator> group_;
};

// For INSTANTIATE_TEST_SUITE_P, where the suite is.
inline const auto kPieces = testing::Values(Index{1} << 30, 5);

}  // namespace lorashard::dist
