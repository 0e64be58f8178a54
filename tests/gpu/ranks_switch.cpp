// ranks: 4
// Adapters that take turns on the cuda device.
#include <gtest/gtest.h>

#include "tests/golden/switch_run.hpp"

namespace lorashard::golden {
namespace {

TEST(SwitchingOnCuda, EachAnswersAsIfItWereAlone) {
  if (kernels::cuda_device_count() == 0) GTEST_SKIP() << "no GPU here; " << kernels::cuda_build();
  for (const dist::MeshExtents& extents : std::vector<dist::MeshExtents>{{1, 1, 1}, {2, 2, 1}})
    take_turns(extents, kernels::DeviceKind::cuda);
}

}  // namespace
}  // namespace lorashard::golden
