// Adapters of checkpoints as PEFT directories, out and in again.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cstring>
#include <filesystem>
#include <map>

#include "core/adapter_file.hpp"
#include "core/export.hpp"
#include "core/safetensors.hpp"
#include "tests/core/expect_refused.hpp"
#include "tests/core/made_checkpoint.hpp"
#include "tests/core/safetensors_bytes.hpp"
#include "tests/core/temporary_directory.hpp"

namespace lorashard::core {
namespace {

using kernels::Failure;
using kernels::text;

// Adapters of a checkpoint written as PEFT has them, and read again.
class PeftFiles : public testing::Test {
 protected:
  std::string checkpoint(const Config& config, const std::string& base_digest = "") {
    const std::string path = directory_ / "adapter.h5";
    values_ = make_checkpoint(path, config, base_digest);
    return path;
  }

  TemporaryDirectory directory_;
  std::map<std::string, std::vector<float>> values_;
};

TEST_F(PeftFiles, LlamaAdaptersComeBackAsTheyWere) {
  for (const bool neighbours : {false, true}) {
    const Config config =
        made_job(text("family = llama\nkv_heads = 2\nrope_neighbours = ", neighbours ? "yes" : "no",
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
  const Config config = made_job("[adapter]\ntargets = q,v,up\nrank = 2\nrank.v = 3\nalpha = 4\nalpha.v = 12\n");
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
  const Config config = made_job("family = llama\nkv_heads = 2\n[adapter]\ntargets = qkv\nrank = 2\nalpha = 4\n");
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
  const Config config = made_job("[adapter]\ntargets = up,down\nrank = 2\n");
  const std::string path = checkpoint(config);
  export_adapter(path, "", directory_ / "once");
  expect_refused([&] { export_adapter(path, "", directory_ / "once"); }, Failure::configuration, {"found an adapter there"});
  std::string bytes = bytes_of(path);
  bytes[bytes.size() / 2] ^= 1;
  put_bytes(path, bytes);
  expect_refused([&] { export_adapter(path, "", directory_ / "twice"); }, Failure::storage, {path});
  EXPECT_FALSE(std::filesystem::exists(directory_ / "twice"));
}

// A file without its last tensors, and if so without what it says of itself.
std::string without_last(const std::string& bytes, int count, bool plain = false) {
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  boost::json::object header = boost::json::parse(bytes.substr(8, length)).as_object();
  std::string data = bytes.substr(8 + length);
  for (; count > 0; --count)
    for (const auto& [name, entry] : header) {
      if (name == "__metadata__") continue;
      const auto& offsets = entry.at("data_offsets").as_array();
      if (offsets[1].to_number<std::size_t>() != data.size()) continue;
      data.resize(offsets[0].to_number<std::size_t>());
      header.erase(name);
      break;
    }
  if (plain) header.erase("__metadata__");
  return safetensors_bytes(boost::json::serialize(header), data);
}

// What is exported names its base and the digests of its tensors: a bit that turns, a tensor that is gone and one that
// came are each named.
TEST_F(PeftFiles, AreBoundToTheirBaseAndTheirContents) {
  const Config config = made_job("[adapter]\ntargets = q,v,up\nrank = 2\n");
  const std::string to = directory_ / "peft", path = to + "/adapter_model.safetensors", base(32, 'b');
  export_adapter(checkpoint(config, base), "", to);
  EXPECT_EQ(stated_base(to), base);
  const std::string whole = bytes_of(path);
  const SafeTensors tensors = SafeTensors::open(path);
  std::uint64_t data_bytes = 0;
  for (const auto& [name, entry] : tensors.entries()) data_bytes = std::max(data_bytes, entry.end);
  for (const auto& [name, entry] : tensors.entries()) {
    std::string flipped = whole;
    flipped[whole.size() - data_bytes + (entry.begin + entry.end) / 2] ^= 4;
    put_bytes(path, flipped);
    expect_refused([&] { read_adapter(to, config.model.shape); }, Failure::configuration, {path, name, "damaged"});
  }
  put_bytes(path, without_last(whole, 1));
  expect_refused([&] { read_adapter(to, config.model.shape); }, Failure::configuration,
                 {path, "'base_model.model.transformer.h.1.mlp.c_fc.lora_B.weight' is missing"});
  // As somebody else would have written it: what the configuration asks for is missing.
  put_bytes(path, without_last(whole, 2, true));
  expect_refused([&] { read_adapter(to, config.model.shape); }, Failure::configuration,
                 {path, "transformer.h.1.mlp.c_fc are missing", "adapter_config.json"});
  put_bytes(path, whole);
  EXPECT_EQ(read_adapter(to, config.model.shape).size(), 4u);
}

}  // namespace
}  // namespace lorashard::core
