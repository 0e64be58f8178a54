#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "core/adapter_file.hpp"
#include "tests/core/expect_refused.hpp"
#include "tests/core/safetensors_bytes.hpp"
#include "tests/core/temporary_directory.hpp"
#include "tests/oracle/golden.hpp"

namespace lorashard::core {
namespace {

using kernels::Failure;

ModelShape shape_of(Index layers, Index width, Index heads) {
  ModelShape shape;
  shape.layers = layers, shape.width = width, shape.heads = shape.kv_heads = heads;
  shape.ffn = 4 * width, shape.vocab = 11, shape.context = 8;
  return shape;
}

const std::string kPrefix = "base_model.model.transformer.";

class AdapterFile : public testing::Test {
 protected:
  // A PEFT directory of one tensor pair: A (rows, in), B (out, cols).
  std::string peft(const std::string& config, const std::string& module, std::vector<std::int64_t> a,
                   std::vector<std::int64_t> b) {
    SafetensorsBuilder builder;
    builder.add(kPrefix + module + ".lora_A.weight", a, values(a[0] * a[1]));
    builder.add(kPrefix + module + ".lora_B.weight", b, values(b[0] * b[1]));
    return peft(config, builder);
  }
  std::string peft(const std::string& config, const SafetensorsBuilder& tensors) {
    put_bytes(directory_ / "adapter_config.json", config);
    put_bytes(directory_ / "adapter_model.safetensors", tensors.bytes());
    return directory_ / "";
  }
  static std::vector<float> values(std::int64_t n) {
    std::vector<float> values(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) + 0.5f;
    return values;
  }
  void refuse(const std::string& path, std::initializer_list<std::string> words) {
    expect_refused([&] { read_adapter(path, shape_); }, Failure::configuration, words);
  }
  TemporaryDirectory directory_;
  ModelShape shape_ = shape_of(2, 6, 2);
};

TEST_F(AdapterFile, TellsForeignAdaptersFromCheckpoints) {
  EXPECT_TRUE(is_foreign_adapter(directory_ / ""));
  EXPECT_TRUE(is_foreign_adapter("some/adapter.safetensors"));
  EXPECT_FALSE(is_foreign_adapter("runs/step-10.h5"));
}

TEST_F(AdapterFile, EveryModuleHasItsTargetAndExtents) {
  const std::tuple<const char*, Target, Index, Index> cases[] = {{"h.1.attn.c_attn", Target::qkv, 6, 18},
                                                                 {"h.1.attn.c_proj", Target::o, 6, 6},
                                                                 {"h.1.mlp.c_fc", Target::up, 6, 24},
                                                                 {"h.1.mlp.c_proj", Target::down, 24, 6}};
  for (const auto& [module, target, in, out] : cases) {
    const auto pairs =
        read_adapter(peft(R"({"peft_type":"LORA","r":2,"lora_alpha":3})", module, {2, in}, {out, 2}), shape_);
    ASSERT_EQ(pairs.size(), 1u);
    EXPECT_EQ(pairs[0].layer, 1);
    EXPECT_EQ(pairs[0].target, target);
    EXPECT_EQ(pairs[0].rank, 2);
    EXPECT_EQ(pairs[0].alpha, 3);
    EXPECT_EQ(pairs[0].in, in);
    EXPECT_EQ(pairs[0].out, out);
    EXPECT_EQ(pairs[0].a, values(2 * in));
    EXPECT_EQ(pairs[0].b, values(2 * out));
  }
}

TEST_F(AdapterFile, PatternsGiveRankAndAlpha) {
  const auto read = [&](const std::string& keys, Index rank) {
    const std::string config = R"({"peft_type":"LORA","r":2,"lora_alpha":3,)" + keys + "}";
    return read_adapter(peft(config, "h.1.mlp.c_fc", {rank, 6}, {24, rank}), shape_).at(0);
  };
  EXPECT_EQ(read(R"("rank_pattern":{"h.1.mlp.c_fc":4})", 4).rank, 4);
  EXPECT_EQ(read(R"("rank_pattern":{"c_fc":4})", 4).rank, 4);
  EXPECT_EQ(read(R"("rank_pattern":{"h\\.[01]\\..*":5,"c_fc":4})", 5).rank, 5) << "the first that matches";
  EXPECT_EQ(read(R"("rank_pattern":{"fc":4,"mlp":4,"1.mlp.c_f":4})", 2).rank, 2) << "after a dot, to the end";
  EXPECT_EQ(read(R"("alpha_pattern":{"mlp.c_fc":7.5})", 2).alpha, 7.5);
  for (const char* bad :
       {R"("alpha_pattern":{"c_fc":0})", R"("alpha_pattern":{"c_fc":1e400})", R"("alpha_pattern":{"c_fc":1e-50})"})
    refuse(
        peft(std::string(R"({"peft_type":"LORA","r":2,"lora_alpha":3,)") + bad + "}", "h.1.mlp.c_fc", {2, 6}, {24, 2}),
        {"adapter_config.json", "alpha", "finite scale"});
  const AdapterPair stable = read(R"("use_rslora":true,"rank_pattern":{"c_fc":4})", 4);
  EXPECT_DOUBLE_EQ(stable.alpha / static_cast<double>(stable.rank), 3.0 / std::sqrt(4.0));
}

TEST_F(AdapterFile, RefusesWhatPeftCanAndThisProgramCannot) {
  const auto config = [&](const std::string& keys) { return peft("{" + keys + "}", "h.0.mlp.c_fc", {2, 6}, {24, 2}); };
  const std::string plain = R"("peft_type":"LORA","r":2,"lora_alpha":3)";
  EXPECT_EQ(
      read_adapter(config(plain + R"(,"use_dora":false,"modules_to_save":null,"loftq_config":{})"), shape_).size(), 1u);
  refuse(config(plain + R"(,"use_dora":true)"), {"adapter_config.json", "use_dora", "found true"});
  refuse(config(plain + R"(,"modules_to_save":["lm_head"])"), {"modules_to_save", "an array"});
  refuse(config(plain + R"(,"layer_replication":[[0,1]])"), {"layer_replication"});
  refuse(config(plain + R"(,"lora_bias":true)"), {"lora_bias"});
  refuse(config(plain + R"(,"some_new_method":7)"), {"some_new_method", "found 7"});
  refuse(config(plain + R"(,"bias":"all")"), {"bias", "'all'", "expected 'none'"});
  refuse(config(plain + R"(,"init_lora_weights":"pissa")"), {"init_lora_weights", "'pissa'"});
  refuse(config(R"("peft_type":"IA3","r":2,"lora_alpha":3)"), {"peft_type", "'IA3'", "'LORA'"});
  // Before what another kind of adapter has besides.
  refuse(config(R"("feedforward_modules":["down_proj"],"peft_type":"IA3")"), {"peft_type", "'IA3'", "'LORA'"});
  refuse(config(R"("peft_type":"LORA","r":0,"lora_alpha":3)"), {"'r'", "found 0"});
  refuse(config(R"("peft_type":"LORA","r":2)"), {"lora_alpha", "nothing"});
  refuse(config(plain + R"(,"rank_pattern":{"c_fc":2.5})"), {"rank_pattern", "2.5"});
  refuse(config(plain + R"(,"rank_pattern":{"c_fc":"x"})"), {"rank_pattern", "c_fc", "'x'"});
  refuse(config(plain + R"(,"rank_pattern":{"(((":4})"), {"pattern", "'((('"});
  refuse(config(plain + R"(,"rank_pattern":{"((.*)*)*x":4})"), {"pattern"});
  refuse(config("]"), {"adapter_config.json", "invalid JSON"});
}

// Just the modules that the configuration names: PEFT would start the missing ones anew, and pass over the others.
TEST_F(AdapterFile, TensorsAndTargetsMustBeTheSame) {
  SafetensorsBuilder both;
  for (const char* module : {"h.0.mlp.c_fc", "h.1.mlp.c_fc"})
    both.add(kPrefix + module + ".lora_A.weight", {2, 6}, values(12))
        .add(kPrefix + module + ".lora_B.weight", {24, 2}, values(48));
  SafetensorsBuilder one;
  one.add("base_model.model.h.1.mlp.c_fc.lora_A.weight", {2, 6}, values(12));  // of a model without its head
  one.add("base_model.model.h.1.mlp.c_fc.lora_B.weight", {24, 2}, values(48));
  const auto config = [](const std::string& keys) {
    return R"({"peft_type":"LORA","r":2,"lora_alpha":3,)" + keys + "}";
  };
  for (const char* keys :
       {R"("target_modules":["c_fc"])", R"("target_modules":["mlp.c_fc","lm_head"])", R"("target_modules":".*\\.c_fc")",
        R"("target_modules":["h.0.mlp.c_fc","h.1.mlp.c_fc"])",
        R"("target_modules":["c_fc"],"layers_to_transform":[0,1],"layers_pattern":"h")"}) {
    EXPECT_EQ(read_adapter(peft(config(keys), both), shape_).size(), 2u) << keys;
    if (std::string(keys).find("layers_") == std::string::npos)
      refuse(peft(config(keys), one), {"adapter_model.safetensors", "h.0.mlp.c_fc are missing", "adapter_config.json"});
  }
  for (const char* keys : {R"("target_modules":["c_fc"],"layers_to_transform":1)", R"("target_modules":"h\\.1\\..*c_fc")",
                           R"("target_modules":["c_fc"],"exclude_modules":["h.0.mlp.c_fc"])",
                           R"("target_modules":["c_fc"],"exclude_modules":".*h\\.0.*")"}) {
    EXPECT_EQ(read_adapter(peft(config(keys), one), shape_).size(), 1u) << keys;
    refuse(peft(config(keys), both), {"transformer.h.0.mlp.c_fc", "none of the targets"});
  }
  refuse(peft(config(R"("target_modules":["c_fc","c_attn"])"), both), {"transformer.h.0.attn.c_attn are missing"});
  refuse(peft(config(R"("target_modules":[])"), both), {"none of the targets"});
  refuse(peft(config(R"("target_modules":7)"), both), {"target_modules", "found 7"});
  refuse(peft(config(R"("target_modules":["c_fc"],"layers_to_transform":["0"])"), both), {"layers_to_transform"});
  refuse(peft(config(R"("target_modules":"(((")"), both), {"pattern", "'((('"});
}

TEST_F(AdapterFile, RefusesTensorsThatDoNotFit) {
  const std::string config = R"({"peft_type":"LORA","r":2,"lora_alpha":3})";
  refuse(peft(config, "h.0.mlp.c_fc", {3, 6}, {24, 3}), {"h.0.mlp.c_fc.lora_A", "found 3x6", "expected 2x6"});
  refuse(peft(config, "h.0.mlp.c_fc", {2, 6}, {6, 2}), {"h.0.mlp.c_fc.lora_B", "found 6x2", "expected 24x2"});
  refuse(peft(config, "h.2.mlp.c_fc", {2, 6}, {24, 2}), {"h.2.mlp.c_fc", "layer 2", "0 to 1"});
  refuse(peft(config, "h.0.self_attn.q_proj", {2, 6}, {6, 2}), {"q_proj"});
  SafetensorsBuilder half;
  half.add(kPrefix + "h.0.mlp.c_fc.lora_B.weight", {24, 2}, values(48));
  refuse(peft(config, half), {"h.0.mlp.c_fc", "found only", "lora_A and lora_B"});
  auto bad = values(12);
  bad[7] = std::numeric_limits<float>::quiet_NaN();
  half.add(kPrefix + "h.0.mlp.c_fc.lora_A.weight", {2, 6}, bad);
  refuse(peft(config, half), {"h.0.mlp.c_fc.lora_A", "nan", "element 7"});
  refuse(peft(config, SafetensorsBuilder()), {"no tensor"});
  std::filesystem::rename(directory_ / "adapter_model.safetensors", directory_ / "adapter_model.bin");
  refuse(directory_ / "", {"adapter_model.bin", "safetensors"});
  refuse(directory_ / "nothing", {"nothing", "No such file"});
}

TEST_F(AdapterFile, LoralibsFusedPairBecomesTwo) {
  SafetensorsBuilder builder;
  builder.add("h.1.attn.c_attn.lora_A", {4, 6}, values(24)).add("h.1.attn.c_attn.lora_B", {12, 2}, values(24));
  const std::string path = directory_ / "l.safetensors";
  put_bytes(path, builder.bytes());
  const auto pairs = read_adapter(path, shape_);
  ASSERT_EQ(pairs.size(), 2u);
  EXPECT_EQ(pairs[0].target, Target::q);
  EXPECT_EQ(pairs[1].target, Target::v);
  const auto all = values(24);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(pairs[i].rank, 2);
    EXPECT_EQ(pairs[i].alpha, 0);
    EXPECT_EQ(pairs[i].a,
              std::vector<float>(all.begin() + 12 * static_cast<int>(i), all.begin() + 12 * static_cast<int>(i + 1)));
    EXPECT_EQ(pairs[i].b,
              std::vector<float>(all.begin() + 12 * static_cast<int>(i), all.begin() + 12 * static_cast<int>(i + 1)));
  }
  builder.add("h.0.attn.c_attn.lora_A", {4, 6}, values(24)).add("h.0.attn.c_attn.lora_B", {18, 2}, values(36));
  put_bytes(path, builder.bytes());
  refuse(path, {path, "h.0.attn.c_attn.lora_B", "found 18x2", "expected 12x2"});
  put_bytes(path, SafetensorsBuilder().add(kPrefix + "h.0.mlp.c_fc.lora_A.weight", {2, 6}, values(12)).bytes());
  refuse(path, {path, "directory"});
}

// Against the tests' own reading of the reference adapters.
TEST_F(AdapterFile, ReadsTheGoldenAdapters) {
  const auto golden = oracle::golden_folder();
  if (!golden) GTEST_SKIP() << oracle::kNoGolden;
  for (const char* run : {"lora_all", "lora_some", "lora_qv"}) {
    const auto expected = oracle::read_golden_run(*golden + "/gpt2/" + run);
    const auto pairs = read_adapter(expected.adapter_source, shape_of(4, 48, 6));
    ASSERT_EQ(pairs.size(), expected.adapters.size()) << run;
    for (const AdapterPair& pair : pairs) {
      const std::string where = kernels::text(run, " layer ", pair.layer, " ", name(pair.target));
      const auto match = std::find_if(expected.adapters.begin(), expected.adapters.end(), [&](const auto& adapter) {
        return adapter.layer == pair.layer &&
               oracle::name_of(adapter.layer, adapter.where).ends_with(name(pair.target));
      });
      ASSERT_NE(match, expected.adapters.end()) << where;
      EXPECT_EQ(pair.rank, match->a.rows) << where;
      EXPECT_EQ(pair.in, match->a.cols) << where;
      EXPECT_EQ(pair.out, match->b.rows) << where;
      EXPECT_EQ(pair.alpha, run == std::string("lora_qv") ? 0 : match->alpha) << where;
      for (std::size_t i = 0; i < pair.a.size(); ++i)
        ASSERT_EQ(pair.a[i], static_cast<float>(match->a.values[i])) << where;
      for (std::size_t i = 0; i < pair.b.size(); ++i)
        ASSERT_EQ(pair.b[i], static_cast<float>(match->b.values[i])) << where;
    }
  }
}

}  // namespace
}  // namespace lorashard::core
