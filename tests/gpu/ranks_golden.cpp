// ranks: 4
// The reference runs on the cuda device: on every mesh of up to 4 ranks below one run a day (and one on four stages), in
// modes that take turns, on the emulator those of several ranks not to their end; all four on each, whole, with
// LORASHARD_GOLDEN_ALL=1 (ctest -C Slow -L slow) and on a GPU.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/golden/golden_run.hpp"

namespace lorashard::golden {
namespace {

const std::vector<dist::MeshExtents> kMeshes{{1, 1, 1}, {2, 1, 1}, {1, 2, 1}, {1, 1, 2}, {2, 2, 1}};

std::vector<GoldenCase> all_cuda_cases() {
  using dist::ScheduleKind;
  constexpr ScheduleKind kSchedules[] = {ScheduleKind::one_f_one_b, ScheduleKind::gpipe, ScheduleKind::interleaved};
  constexpr core::Recompute kRecomputes[] = {core::Recompute::none, core::Recompute::selective, core::Recompute::full};
  std::vector<GoldenCase> cases;
  std::size_t turn = 0;
  for (const dist::MeshExtents& mesh : kMeshes)
    for (const char* run : {"lora_all", "lora_qv", "lora_some", "full"}) {
      const ScheduleKind schedule = mesh.pipeline > 1 ? kSchedules[turn % 3] : ScheduleKind::one_f_one_b;
      cases.push_back({run, mesh, mesh.tensor > 1 && turn % 2 == 0, schedule, mesh.pipeline > 1 ? 2 : 0, kRecomputes[turn % 3]});
      ++turn;
    }
  // The tied table lies on the first and the last of more than two stages.
  cases.push_back({"full", {1, 4, 1}, false, ScheduleKind::one_f_one_b, 2, core::Recompute::none});
  return cases;
}

// The emulator takes up to three seconds of a core for a step.
bool all_wanted() {
  return std::getenv("LORASHARD_GOLDEN_ALL") || kernels::cuda_build().find("emulated") == std::string::npos;
}

// A day's run on one rank goes to its end (0), those on more take each mode through some steps of its own.
std::size_t daily_steps(const GoldenCase& c) { return c.mesh.ranks() == 1 ? 0 : c.family == "llama" ? 4 : 8; }

// One of every mesh's four, another run and other modes on each.
std::vector<GoldenCase> cuda_cases() {
  const std::vector<GoldenCase> all = all_cuda_cases();
  if (all_wanted()) return all;
  std::vector<GoldenCase> daily;
  for (std::size_t mesh = 0; mesh < kMeshes.size(); ++mesh) daily.push_back(all[4 * mesh + (mesh + 2) % 4]);
  daily.push_back(all.back());
  return daily;
}

// Ranks that hold key/value heads alike, and every mode once.
std::vector<GoldenCase> llama_cuda_cases() {
  using dist::ScheduleKind;
  return {{"full", {3, 1, 1}, false, ScheduleKind::one_f_one_b, 0, core::Recompute::none, "llama"},
          {"lora_all", {2, 2, 1}, true, ScheduleKind::one_f_one_b, 2, core::Recompute::selective, "llama"}};
}

class GoldenOnCuda : public testing::TestWithParam<GoldenCase> {};

TEST_P(GoldenOnCuda, IsRepeated) {
  if (kernels::cuda_device_count() == 0) GTEST_SKIP() << "no GPU here; " << kernels::cuda_build();
  const auto root = oracle::golden_folder();
  if (!root) GTEST_SKIP() << oracle::kNoGolden;
  repeat_golden(GetParam(), *root, kernels::DeviceKind::cuda, all_wanted() ? 0 : daily_steps(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Gpt2, GoldenOnCuda, testing::ValuesIn(cuda_cases()),
                         [](const auto& info) { return title(info.param); });

INSTANTIATE_TEST_SUITE_P(Llama, GoldenOnCuda, testing::ValuesIn(llama_cuda_cases()),
                         [](const auto& info) { return title(info.param); });

}  // namespace
}  // namespace lorashard::golden
