// ranks: 6
// Plans against runs on the host, on every mesh and mode of the golden cases.
#include <gtest/gtest.h>

#include "core/options.hpp"
#include "tests/golden/ledger_run.hpp"

namespace lorashard::golden {
namespace {

class Ledger : public testing::TestWithParam<GoldenCase> {};

TEST_P(Ledger, PlanAndRunAgreeToTheByte) {
  expect_plan_is_run(GetParam(), kernels::DType::f32, kernels::DeviceKind::host);
}

TEST_P(Ledger, PlanAndRunAgreeToTheByteInBf16) {
  expect_plan_is_run(GetParam(), kernels::DType::bf16, kernels::DeviceKind::host);
}

INSTANTIATE_TEST_SUITE_P(Gpt2, Ledger, testing::ValuesIn(daily_cases()),
                         [](const auto& info) { return title(info.param); });

// Each mesh with one of its two runs.
std::vector<GoldenCase> half_of_llama_cases() {
  std::vector<GoldenCase> half;
  const std::vector<GoldenCase> all = llama_cases();
  for (std::size_t i = 0; i < all.size(); i += 2) half.push_back(all[i + i / 2 % 2]);
  return half;
}
INSTANTIATE_TEST_SUITE_P(Llama, Ledger, testing::ValuesIn(half_of_llama_cases()),
                         [](const auto& info) { return title(info.param); });

// Every mesh of at most 6 ranks that cuts 6 heads and 4 layers, each golden run on it.
std::vector<GoldenCase> every_mesh() {
  std::vector<GoldenCase> cases;
  for (const int tensor : {1, 2, 3, 6})
    for (int pipeline = 1; pipeline <= 4; ++pipeline)
      for (int data = 1; tensor * pipeline * data <= 6; ++data)
        for (const char* run : kGoldenRuns)
          cases.push_back(
              {run, {tensor, pipeline, data}, tensor > 1, dist::ScheduleKind::one_f_one_b, 1, core::Recompute::none});
  return cases;
}

class LedgerOfMeshes : public testing::TestWithParam<GoldenCase> {};

TEST_P(LedgerOfMeshes, PlanAndRunAgreeToTheByte) {
  expect_plan_is_run(GetParam(), kernels::DType::f32, kernels::DeviceKind::host);
}

INSTANTIATE_TEST_SUITE_P(Gpt2, LedgerOfMeshes, testing::ValuesIn(every_mesh()),
                         [](const auto& info) { return title(info.param); });

// The jobs of launch/quickstart, with random weights and tokens in place of its files, on every mesh that divides them.
class Quickstart : public testing::TestWithParam<const char*> {};

TEST_P(Quickstart, PlanAndRunAgreeToTheByte) {
  const std::string base = scratch() + "/quickstart_base.h5", tokens = scratch() + "/quickstart_tokens.h5";
  const oracle::Shape shape{.layers = 4, .width = 192, .heads = 6, .ffn = 768, .vocab = 257, .context = 128};
  on_rank_0([&] {
    write_base(base, oracle::random_model(shape, 1));
    write_tokens(tokens, random_documents(32, shape.context, shape.vocab, 2), shape.vocab);
  });
  int meshes = 0;
  for (int ranks = 1; ranks <= 6; ++ranks)
    for (const dist::MeshExtents& extents : meshes_of(ranks)) {
      if (shape.heads % extents.tensor != 0 || extents.pipeline > shape.layers) continue;
      core::Config config = core::read_config(GetParam(), {{"model.base", base}, {"device.threads", "1"}});
      if (config.train.batch % extents.data != 0) continue;
      config.model.shape = shape_of(shape);
      core::complete_config(config, nullptr);
      config.mesh.tensor = extents.tensor, config.mesh.pipeline = extents.pipeline;
      expect_plan_is_run(config, extents, tokens, kernels::DeviceKind::host);
      ++meshes;
    }
  EXPECT_EQ(meshes, 16);
}

INSTANTIATE_TEST_SUITE_P(Jobs, Quickstart,
                         testing::Values("configs/quickstart-lora.ini", "configs/quickstart-full.ini"),
                         [](const auto& info) {
                           return std::string(info.param).find("lora") == std::string::npos ? "full" : "lora";
                         });

}  // namespace
}  // namespace lorashard::golden
