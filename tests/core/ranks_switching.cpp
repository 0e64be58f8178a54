// ranks: 1 2 4
// Several adapters in one model that take turns: each as if it were alone there, on every mesh, and within a bound of memory.
#include <gtest/gtest.h>

#include "core/inference.hpp"
#include "tests/core/expect_refused.hpp"
#include "tests/golden/switch_run.hpp"
#include "tests/rank_main.hpp"

namespace lorashard::core {
namespace {

using golden::on_mesh;
using golden::switch_files;
using golden::switch_job;
using kernels::Failure;

TEST(Switching, EachAnswersAsIfItWereAlone) {
  for (const dist::MeshExtents& extents : golden::meshes_of(runtime().size())) {
    if (extents.pipeline > 3) continue;  // of the model's layers
    SCOPED_TRACE(dist::to_string(extents));
    golden::take_turns(extents, kernels::DeviceKind::host);
  }
}

TEST(Switching, RefusesAnotherBaseAndWhatHasNoRoom) {
  const auto& files = switch_files();
  on_mesh({1, 1, 1}, [&](kernels::Device& device, dist::Mesh& mesh) {
    Config config = switch_job({1, 1, 1}, "");
    config.model.base = files.other_base;
    Inference other(config, device, mesh, Index{1} << 20);
    expect_refused([&] { other.use_adapter(files.adapters[0]); }, Failure::configuration,
                   {files.adapters[0], "base_digest", files.other_base});
    Inference small(switch_job({1, 1, 1}, ""), device, mesh, 1000);
    expect_refused([&] { small.use_adapter(files.adapters[0]); }, Failure::configuration,
                   {files.adapters[0], "expected at most the 1000"});
  });
}

}  // namespace
}  // namespace lorashard::core
