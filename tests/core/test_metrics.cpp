#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/metrics.hpp"
#include "tests/core/temporary_directory.hpp"

namespace lorashard::core {
namespace {

std::string content_of(const std::string& path) {
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

const StepReport kReport{.step = 0, .loss = 0.1, .grad_norm = 2, .lr = 1e-4, .tokens = 32};

StepReport at_step(Index step) {
  StepReport report = kReport;
  report.step = step;
  return report;
}

TEST(Metrics, WritesOneObjectAStep) {
  const TemporaryDirectory directory;
  const std::string path = directory / "metrics.jsonl";
  MetricsFile file(path, 0);
  file.append(kReport, 0.5, {{"a.h5", 3}}, {});
  file.append(at_step(1), 0.5, {}, {{"a \"b\".h5", 1.5}, {"c.h5", 0.25}});
  EXPECT_EQ(content_of(path),
            "{\"step\":0,\"loss\":0.1,\"grad_norm\":2,\"lr\":1e-04,\"tokens\":32,\"tokens_per_s\":64,"
            "\"valid_loss_before\":3}\n"
            "{\"step\":1,\"loss\":0.1,\"grad_norm\":2,\"lr\":1e-04,\"tokens\":32,\"tokens_per_s\":64,"
            "\"valid_loss\":1.5,\"valid_losses\":{\"a \\\"b\\\".h5\":1.5,\"c.h5\":0.25}}\n");
}

TEST(Metrics, LayersAreWrittenWithWhatTheyHave) {
  const TemporaryDirectory directory;
  const std::string path = directory / "metrics.jsonl";
  StepReport report = kReport;
  report.layers = {{.layer = 2, .adapted = true, .a_norm = 0.5, .b_norm = 0.25, .grad_norm = 3},
                   {.layer = 7, .grad_norm = 1.5}};
  MetricsFile(path, 0).append(report, 0.5, {}, {});
  EXPECT_EQ(content_of(path),
            "{\"step\":0,\"loss\":0.1,\"grad_norm\":2,\"lr\":1e-04,\"tokens\":32,\"tokens_per_s\":64,"
            "\"layers\":[{\"layer\":2,\"a_norm\":0.5,\"b_norm\":0.25,\"grad_norm\":3},"
            "{\"layer\":7,\"grad_norm\":1.5}]}\n");
}

TEST(Metrics, AResumedRunHasEachStepOnce) {
  const TemporaryDirectory directory;
  const std::string path = directory / "metrics.jsonl";
  {
    MetricsFile file(path, 0);
    for (Index step = 0; step < 5; ++step) file.append(at_step(step), 1, {}, {});
  }
  const std::string five = content_of(path);
  std::ofstream(path, std::ios::app) << "{\"step\":5,\"lo";  // killed while writing
  { MetricsFile file(path, 6); }
  EXPECT_EQ(content_of(path), five);
  MetricsFile file(path, 3);
  file.append(at_step(3), 1, {}, {});
  file.append(at_step(4), 1, {}, {});
  EXPECT_EQ(content_of(path), five);
  EXPECT_EQ(directory.entries(), 1u);
}

TEST(Metrics, LossesBeforeTrainingAreFoundAgain) {
  const TemporaryDirectory directory;
  const std::string path = directory / "metrics.jsonl";
  EXPECT_TRUE(losses_before(path).empty());
  { MetricsFile(path, 0).append(kReport, 1, {{"a.h5", 3}}, {}); }
  ASSERT_EQ(losses_before(path).size(), 1u);
  EXPECT_EQ(losses_before(path)[0].loss, 3);
  { MetricsFile(path, 0).append(kReport, 1, {{"a.h5", 3}, {"b.h5", 4.5}}, {}); }
  ASSERT_EQ(losses_before(path).size(), 2u);
  EXPECT_EQ(losses_before(path)[1].name, "b.h5");
  EXPECT_EQ(losses_before(path)[1].loss, 4.5);
}

TEST(Metrics, AFileThatCannotBeWrittenIsNamed) {
  const TemporaryDirectory directory;
  try {
    MetricsFile file(directory / "nowhere/metrics.jsonl", 0);
    FAIL() << "nothing was thrown";
  } catch (const kernels::Error& error) {
    EXPECT_EQ(error.failure(), kernels::Failure::storage);
    EXPECT_THAT(error.what(), testing::HasSubstr("nowhere/metrics.jsonl"));
  }
}

}  // namespace
}  // namespace lorashard::core
