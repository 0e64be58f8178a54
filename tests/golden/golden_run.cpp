#include "tests/golden/golden_run.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>

#include "core/base_file.hpp"
#include "core/import.hpp"
#include "core/tokenize.hpp"

namespace lorashard::golden {
namespace {

// golden/README.md: ten times what float32 loses in the reference implementation itself.
constexpr double kLoss = 3e-6;           // relative, each step
constexpr double kGradientNorm = 2e-5;   // relative, each step
constexpr double kGradient = 3e-4;       // relative, L2 per tensor, step 1
constexpr double kFinalAdapter = 3e-5;   // absolute
constexpr double kFinalWeight = 3.3e-3;  // absolute

struct Files {
  std::string base, tokens, first_batch;
};

// The golden base imported and its rows tokenized, once a job. Collective.
const Files& files(const std::string& root, const std::string& family) {
  static std::map<std::string, Files> all;
  if (const auto found = all.find(family); found != all.end()) return found->second;
  return all[family] = [&] {
    const std::string at = scratch() + "/" + family + "_";
    const Files f{at + "base.h5", at + "tokens.h5", at + "first.h5"};
    on_rank_0([&] {
      const std::string base = root + "/" + family + "/base";
      core::import_base(base, f.base, kernels::DType::f32);
      const core::Index vocab = core::BaseFile(f.base).shape().vocab;
      const std::string rows = base + "/rows.jsonl", first = at + "first.jsonl";
      {
        std::ifstream in(rows);
        std::ofstream out(first);
        std::string line;
        for (int i = 0; i < 12 && std::getline(in, line); ++i) out << line << "\n";
      }
      core::tokenize_file({rows, f.tokens, core::TextFormat::json, "", vocab});
      core::tokenize_file({first, f.first_batch, core::TextFormat::json, "", vocab});
    });
    return f;
  }();
}

void expect_gradients(const core::Trainer& trainer, const oracle::GoldenRun& run) {
  const NamedArrays found = by_name(trainer.gradients());
  EXPECT_EQ(found.size(), run.gradients_step1.size());
  for (const auto& [name, expected] : run.gradients_step1) {
    const auto entry = found.find(name);
    ASSERT_TRUE(entry != found.end()) << "no gradient is called " << name;
    EXPECT_LE(distance(entry->second, expected), kGradient * norm(expected)) << name;
  }
}

void expect_final_values(const core::Trainer& trainer, const oracle::GoldenRun& run) {
  const NamedArrays found = by_name(trainer.trained_values());
  EXPECT_EQ(found.size(), run.final_values.size());
  for (const auto& [name, expected] : run.final_values) {
    const auto entry = found.find(name);
    ASSERT_TRUE(entry != found.end()) << "no trained tensor is called " << name;
    EXPECT_LE(largest_difference(entry->second, expected), run.full ? kFinalWeight : kFinalAdapter) << name;
  }
}

void repeat_run(const core::Config& config, const oracle::GoldenRun& run, const Files& inputs, kernels::Device& device,
                dist::Mesh& mesh, std::size_t most_steps) {
  core::Trainer trainer(config, device, mesh);
  const core::Dataset data(inputs.tokens, config.data.length, config.data.order, config.data.seed);
  const std::size_t steps = most_steps == 0 ? run.steps.size() : std::min(run.steps.size(), most_steps);
  for (std::size_t step = 0; step < steps; ++step) {
    const oracle::GoldenStep& expected = run.steps[step];
    const core::StepReport found = trainer.step(data);
    EXPECT_NEAR(found.loss, expected.loss, kLoss * expected.loss) << "step " << step;
    EXPECT_NEAR(found.grad_norm, expected.grad_norm, kGradientNorm * expected.grad_norm) << "step " << step;
    EXPECT_NEAR(found.lr, expected.lr, 1e-15) << "step " << step;
    EXPECT_EQ(found.step, static_cast<core::Index>(step));
    EXPECT_EQ(found.tokens, run.batch * config.data.length);
    if (step == 1) expect_gradients(trainer, run);
  }
  if (steps < run.steps.size()) return;
  expect_final_values(trainer, run);
  const core::Dataset first(inputs.first_batch, config.data.length, core::Order::sequential, 0);
  const core::Evaluation evaluation = trainer.evaluate(first);
  // Evaluation never smooths; the reference's figure does as its training did.
  if (run.label_smoothing == 0) {
    EXPECT_NEAR(evaluation.loss, run.loss_after, kLoss * run.loss_after);
  }
}

}  // namespace

void repeat_golden(const GoldenCase& c, const std::string& root, kernels::DeviceKind kind, std::size_t most_steps) {
  const Files& inputs = files(root, c.family);
  const auto body = [&](kernels::Device& device, dist::Mesh& mesh) {
    const oracle::GoldenRun run = oracle::read_golden_run(root + "/" + c.family + "/" + c.run);
    repeat_run(config_of(c, run, inputs.base), run, inputs, device, mesh, most_steps);
  };
  on_mesh(c.mesh, body, kind);
}

}  // namespace lorashard::golden
