// Adapters of checkpoints as PEFT directories, out and in again.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "core/adapter.hpp"
#include "core/adapter_file.hpp"
#include "core/checkpoint.hpp"
#include "core/export.hpp"
#include "core/options.hpp"
#include "tests/core/expect_refused.hpp"
#include "tests/core/temporary_directory.hpp"

namespace lorashard::core {
namespace {

using dist::AxisCut;
using kernels::Failure;
using kernels::text;

// Adapters of a checkpoint written as PEFT has them, and read again.
class PeftFiles : public testing::Test {
 protected:
  std::string checkpoint(const Config& config) {
    const std::string path = directory_ / "adapter.h5";
    const TrainingPlan plan = make_plan(config);
    std::vector<CheckpointEntry> entries;
    for (const AdapterSpec& spec : plan.adapters)
      for (const char* suffix : {"", "/first_moment", "/second_moment"}) {
        entries.push_back({spec.a_name() + suffix, spec.rank, spec.in});
        entries.push_back({spec.b_name() + suffix, spec.out, spec.rank});
      }
    for (const AdapterSpec& spec : plan.adapters) entries.push_back({spec.alpha_name(), 1, 1});
    CheckpointWriter writer(path, {1, "lora", canonical_text(config), ""}, entries, *alone_);
    for (const CheckpointEntry& entry : entries) {
      std::vector<float> values(static_cast<std::size_t>(entry.rows * entry.cols));
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(values_.size() * 100 + i);
      for (const AdapterSpec& spec : plan.adapters)
        if (entry.name == spec.alpha_name()) values[0] = static_cast<float>(spec.alpha);
      values_[entry.name] = values;
      writer.write(entry.name, AxisCut::whole(entry.rows), AxisCut::whole(entry.cols),
                   kernels::view(values.data(), entry.rows, entry.cols));
    }
    writer.finish();
    return path;
  }
  static Config job(const std::string& lines) {
    Config config = parse_config("[model]\nlayers = 2\nwidth = 8\nheads = 4\nffn = 6\nvocab = 5\ncontext = 4\n" + lines, "job", {});
    complete_config(config, nullptr);
    return config;
  }

  TemporaryDirectory directory_;
  std::unique_ptr<kernels::Device> device_ = kernels::make_meta_device();
  std::unique_ptr<dist::Communicator> alone_ = dist::make_meta_communicator(*device_, "world", 0, 1);
  std::map<std::string, std::vector<float>> values_;
};

TEST_F(PeftFiles, LlamaAdaptersComeBackAsTheyWere) {
  for (const bool neighbours : {false, true}) {
    const Config config = job(text("family = llama\nkv_heads = 2\nrope_neighbours = ", neighbours ? "yes" : "no",
                                   "\n[adapter]\ntargets = all\nlayers = 1\nrank = 2\nrank.up = 3\nalpha = 5\nalpha.q = 7\n"));
    const std::string to = directory_ / text("peft", neighbours);
    EXPECT_EQ(export_adapter(checkpoint(config), "", to).tensors, 14);
    const std::vector<AdapterPair> pairs = read_adapter(to, config.model.shape);
    const TrainingPlan plan = make_plan(config);
    ASSERT_EQ(pairs.size(), plan.adapters.size());
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      const AdapterSpec& spec = plan.adapters[i];
      EXPECT_EQ(pairs[i].layer, spec.layer);
      EXPECT_EQ(pairs[i].target, spec.target);
      EXPECT_EQ(pairs[i].rank, spec.rank);
      EXPECT_DOUBLE_EQ(pairs[i].alpha, spec.alpha);
      EXPECT_EQ(pairs[i].a, values_.at(spec.a_name())) << spec.name();
      EXPECT_EQ(pairs[i].b, values_.at(spec.b_name())) << spec.name();
    }
  }
}

// W + s B A of a whole module, row by row.
std::vector<double> change_of(const AdapterPair& pair) {
  std::vector<double> change(static_cast<std::size_t>(pair.out * pair.in));
  for (Index o = 0; o < pair.out; ++o)
    for (Index i = 0; i < pair.in; ++i)
      for (Index r = 0; r < pair.rank; ++r)
        change[static_cast<std::size_t>(o * pair.in + i)] += pair.alpha / static_cast<double>(pair.rank) *
                                                             pair.b[static_cast<std::size_t>(o * pair.rank + r)] *
                                                             pair.a[static_cast<std::size_t>(r * pair.in + i)];
  return change;
}

TEST_F(PeftFiles, PartsOfOneModuleBecomeOnePair) {
  const Config config = job("[adapter]\ntargets = q,v,up\nrank = 2\nrank.v = 3\nalpha = 4\nalpha.v = 12\n");
  const std::string to = directory_ / "peft";
  export_adapter(checkpoint(config), "", to);
  const std::vector<AdapterPair> pairs = read_adapter(to, config.model.shape);
  ASSERT_EQ(pairs.size(), 4u);
  const TrainingPlan plan = make_plan(config);
  for (const AdapterPair& pair : pairs) {
    std::vector<double> expected(static_cast<std::size_t>(pair.out * pair.in));
    for (const AdapterSpec& spec : plan.adapters) {
      if (spec.layer != pair.layer || (spec.target == Target::up) != (pair.target == Target::up)) continue;
      const std::vector<double> part = change_of({spec.layer, spec.target, spec.rank, spec.alpha, spec.in, spec.out,
                                                  values_.at(spec.a_name()), values_.at(spec.b_name())});
      const Index first = spec.target == Target::v ? 16 : 0;
      for (std::size_t i = 0; i < part.size(); ++i) expected[static_cast<std::size_t>(first * spec.in) + i] += part[i];
    }
    EXPECT_EQ(change_of(pair), expected);  // small whole numbers: exact
  }
}

TEST_F(PeftFiles, AJointAdapterBecomesThree) {
  const Config config = job("family = llama\nkv_heads = 2\n[adapter]\ntargets = qkv\nrank = 2\nalpha = 4\n");
  const std::string to = directory_ / "peft";
  export_adapter(checkpoint(config), "", to);
  const std::vector<AdapterPair> pairs = read_adapter(to, config.model.shape);
  ASSERT_EQ(pairs.size(), 6u);
  std::vector<float> rows;
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(pairs[i].a, values_.at("layers.0.attention.qkv.lora_a"));
    rows.insert(rows.end(), pairs[i].b.begin(), pairs[i].b.end());
  }
  EXPECT_EQ(rows, values_.at("layers.0.attention.qkv.lora_b"));
}

TEST_F(PeftFiles, RefusesWhatPeftCannotHold) {
  const Config config = job("[adapter]\ntargets = up,down\nrank = 2\n");
  const std::string path = checkpoint(config);
  export_adapter(path, "", directory_ / "once");
  expect_refused([&] { export_adapter(path, "", directory_ / "once"); }, Failure::configuration, {"found an adapter there"});
  std::string bytes = bytes_of(path);
  bytes[bytes.size() / 2] ^= 1;
  put_bytes(path, bytes);
  expect_refused([&] { export_adapter(path, "", directory_ / "twice"); }, Failure::storage, {path});
  EXPECT_FALSE(std::filesystem::exists(directory_ / "twice"));
}

}  // namespace
}  // namespace lorashard::core
