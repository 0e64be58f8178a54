#include <gtest/gtest.h>

#include <cmath>

#include "kernels/ceiling.hpp"

namespace lorashard::kernels {
namespace {

TEST(Ceiling, MeasuresTheHostAndCountsNothing) {
  const auto host = make_host_device(1);
  for (DType dtype : {DType::f32, DType::bf16}) {
    const double gflops = library_gflops(*host, 64, 96, 128, dtype);
    EXPECT_GT(gflops, 0.0);
    EXPECT_TRUE(std::isfinite(gflops));
  }
  EXPECT_EQ(host->ledger().peak_bytes(), 0);
  EXPECT_EQ(host->profile().entry(Phase::matmul).calls, 0);
  EXPECT_EQ(library_gflops(*make_meta_device(), 64, 96, 128, DType::f32), 0.0);
}

}  // namespace
}  // namespace lorashard::kernels
