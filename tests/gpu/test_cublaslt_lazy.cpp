// cuBLASLt is loaded when it is first called: also where there is no GPU.
#include <cublasLt.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "kernels/device.hpp"

namespace lorashard::kernels {
namespace {

bool loaded() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find("libcublasLt") != std::string::npos) return true;
  return false;
}

TEST(CublasLt, IsLoadedByItsFirstCall) {
  EXPECT_FALSE(loaded());
  EXPECT_STREQ(cublasLtGetStatusName(CUBLAS_STATUS_NOT_SUPPORTED), "CUBLAS_STATUS_NOT_SUPPORTED");
  EXPECT_EQ(loaded(), cuda_build().find("emulated") == std::string::npos);
}

}  // namespace
}  // namespace lorashard::kernels
