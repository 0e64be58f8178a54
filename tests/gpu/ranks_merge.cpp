// ranks: 4
// Merging on the cuda device: bits come back there too, and the merged file is the host's.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/golden/merge_run.hpp"

namespace lorashard::golden {
namespace {

class MergingOnCuda : public testing::TestWithParam<MergeCase> {};

TEST_P(MergingOnCuda, BitsComeBackAndTheFileIsTheHosts) {
  if (kernels::cuda_device_count() == 0) GTEST_SKIP() << "no GPU here; " << kernels::cuda_build();
  const std::string host = merge_to_file(GetParam(), {1, 1, 1}, scratch() + "/host.h5", kernels::DeviceKind::host);
  for (const dist::MeshExtents& extents : std::vector<dist::MeshExtents>{{1, 1, 1}, {2, 1, 2}, {2, 2, 1}}) {
    merge_and_unmerge(GetParam(), extents, 3, kernels::DeviceKind::cuda);
    const std::string cuda = merge_to_file(GetParam(), extents, scratch() + "/cuda.h5", kernels::DeviceKind::cuda);
    on_rank_0([&] { EXPECT_EQ(cuda, host) << dist::to_string(extents); });
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, MergingOnCuda,
                         testing::Values(MergeCase{kernels::DType::f32, true}, MergeCase{kernels::DType::bf16, false}),
                         [](const auto& info) { return title(info.param); });

}  // namespace
}  // namespace lorashard::golden
