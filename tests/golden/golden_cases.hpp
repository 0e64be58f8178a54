// Which jobs the golden runs are repeated with: every mesh and mode, and a part of them for every day.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "dist/mesh.hpp"
#include "tests/oracle/golden.hpp"

namespace lorashard::golden {

inline constexpr const char* kGoldenRuns[] = {"lora_all", "lora_some", "lora_qv", "full"};

struct GoldenCase {
  std::string run;
  dist::MeshExtents mesh;
  bool sequence_parallel = false;
  dist::ScheduleKind schedule = dist::ScheduleKind::one_f_one_b;
  core::Index microbatch = 0;
  core::Recompute recompute = core::Recompute::none;
  std::string family = "gpt2";  // folder of the reference runs
};

// "lora_all_2x2x1_sequence_interleaved_micro2_full": what its tests are called.
std::string title(const GoldenCase& c);
void PrintTo(const GoldenCase& c, std::ostream* out);  // for GoogleTest

// The meshes, tensor x pipeline x data, smallest first.
const std::vector<dist::MeshExtents>& golden_meshes();

// Every run x mesh x sequence parallelism x schedule (where there is a pipeline) x microbatch x recompute: 1008 cases.
std::vector<GoldenCase> all_cases();
// 57 of them: each mesh with each value of every mode and every run; all pairs of (schedule, microbatch, recompute)
// occur on each mesh with a pipeline (an orthogonal array of strength 2).
std::vector<GoldenCase> daily_cases();

// The two runs of the llama family in turns on meshes that cut its 6 heads over 2 key/value heads in every way, the modes in
// turns as well.
std::vector<GoldenCase> llama_cases();

// The mesh and the modes of a case; the rest is as Config has it.
core::Config modes_of(const GoldenCase& c);
// The job of the golden run, on the files made of its base and rows.
core::Config config_of(const GoldenCase& c, const oracle::GoldenRun& run, const std::string& base_file);

}  // namespace lorashard::golden
