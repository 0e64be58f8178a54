#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <map>

#include "core/base_file.hpp"
#include "core/import.hpp"
#include "kernels/numbers.hpp"
#include "tests/core/expect_refused.hpp"
#include "tests/core/limited_file_size.hpp"
#include "tests/core/safetensors_bytes.hpp"
#include "tests/core/temporary_directory.hpp"
#include "tests/oracle/golden.hpp"

namespace lorashard::core {
namespace {

using dist::AxisCut;
using kernels::DType;
using kernels::Failure;

struct Stored {
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

// One layer, width 4, 2 heads, vocabulary 5, context 3: the tensors of a Hugging Face directory.
class ImportTest : public testing::Test {
 protected:
  ImportTest() {
    add("wte.weight", {5, 4}), add("wpe.weight", {3, 4});
    for (const char* norm : {"h.0.ln_1", "h.0.ln_2", "ln_f"})
      add(std::string(norm) + ".weight", {4}), add(std::string(norm) + ".bias", {4});
    linear("h.0.attn.c_attn", 4, 12), linear("h.0.attn.c_proj", 4, 4);
    linear("h.0.mlp.c_fc", 4, 16), linear("h.0.mlp.c_proj", 16, 4);
  }
  void add(const std::string& name, const std::vector<std::int64_t>& shape) {
    std::int64_t count = 1;
    for (const auto n : shape) count *= n;
    Stored stored{shape, {}};
    for (std::int64_t i = 0; i < count; ++i)
      stored.values.push_back(static_cast<float>(100 * tensors_.size()) + static_cast<float>(i));
    tensors_[name] = stored;
  }
  void linear(const std::string& name, std::int64_t in, std::int64_t out) {
    add(name + ".weight", {in, out}), add(name + ".bias", {out});
  }
  std::string weights(const std::string& prefix = "transformer.") const {
    SafetensorsBuilder builder;
    for (const auto& [name, stored] : tensors_)
      builder.add(name == "lm_head.weight" ? name : prefix + name, stored.shape, stored.values);
    return builder.bytes();
  }
  static std::string config(const std::string& more = "") {
    return R"({"model_type":"gpt2","n_layer":1,"n_embd":4,"n_head":2,"vocab_size":5,"n_positions":3)" + more + "}";
  }
  void put(const std::string& config, const std::string& weights) {
    std::filesystem::create_directory(from());
    put_bytes(from() + "/config.json", config);
    put_bytes(from() + "/model.safetensors", weights);
  }
  std::string from() const { return directory_ / "hf"; }
  std::string to() const { return directory_ / "base.h5"; }
  void refuse(const std::string& config, const std::string& weights, std::initializer_list<std::string> words) {
    put(config, weights);
    expect_refused([&] { import_base(from(), to(), DType::f32); }, Failure::configuration, words);
    EXPECT_EQ(directory_.entries(), 1u) << "something was left behind";
  }
  static std::vector<float> read(const BaseFile& base, const std::string& name) {
    const TensorInfo tensor = find(tensor_table(base.shape()), name);
    std::vector<float> values(static_cast<std::size_t>(tensor.rows * tensor.cols));
    base.read(tensor, AxisCut::whole(tensor.rows), AxisCut::whole(tensor.cols),
              kernels::view(values.data(), tensor.rows, tensor.cols));
    return values;
  }
  std::vector<float> turned(const std::string& name) const {
    const Stored& stored = tensors_.at(name);
    std::vector<float> values;
    for (std::int64_t j = 0; j < stored.shape[1]; ++j)
      for (std::int64_t i = 0; i < stored.shape[0]; ++i)
        values.push_back(stored.values[static_cast<std::size_t>(i * stored.shape[1] + j)]);
    return values;
  }
  void expect_imported(const BaseFile& base) const {
    EXPECT_EQ(read(base, "embedding.token"), tensors_.at("wte.weight").values);
    EXPECT_EQ(read(base, "embedding.position"), tensors_.at("wpe.weight").values);
    EXPECT_EQ(read(base, "layers.0.norm1.weight"), tensors_.at("h.0.ln_1.weight").values);
    EXPECT_EQ(read(base, "layers.0.norm2.bias"), tensors_.at("h.0.ln_2.bias").values);
    EXPECT_EQ(read(base, "final_norm.bias"), tensors_.at("ln_f.bias").values);
    EXPECT_EQ(read(base, "layers.0.attention.qkv.weight"), turned("h.0.attn.c_attn.weight"));
    EXPECT_EQ(read(base, "layers.0.attention.qkv.bias"), tensors_.at("h.0.attn.c_attn.bias").values);
    EXPECT_EQ(read(base, "layers.0.attention.o.weight"), turned("h.0.attn.c_proj.weight"));
    EXPECT_EQ(read(base, "layers.0.mlp.up.weight"), turned("h.0.mlp.c_fc.weight"));
    EXPECT_EQ(read(base, "layers.0.mlp.down.weight"), turned("h.0.mlp.c_proj.weight"));
  }

  TemporaryDirectory directory_;
  std::map<std::string, Stored> tensors_;
};

TEST_F(ImportTest, TensorsFindTheirPlaceWithAndWithoutThePrefix) {
  for (const char* prefix : {"transformer.", ""}) {
    put(config(), weights(prefix));
    std::vector<std::pair<Index, Index>> progress;
    const ImportReport report =
        import_base(from(), to(), DType::f32, [&](Index done, Index total) { progress.emplace_back(done, total); });
    const BaseFile base(to());
    base.verify();
    expect_imported(base);
    EXPECT_EQ(base.digest(), report.digest);
    EXPECT_EQ(base.shape(), report.shape);
    EXPECT_EQ(report.tensors, 16);
    EXPECT_EQ(progress.size(), 16u);
    EXPECT_EQ(progress.back(), std::pair(Index{16}, Index{16}));
    EXPECT_EQ(report.bytes, static_cast<Index>(std::filesystem::file_size(to())));
    EXPECT_TRUE(base.shape().tied_head);
    EXPECT_EQ(base.shape().ffn, 16);
    EXPECT_EQ(base.shape().norm_eps, 1e-5f);
  }
}

TEST_F(ImportTest, PiecesOfAnySizeMakeTheSameFile) {
  tensors_["lm_head.weight"] = tensors_["wte.weight"];
  put(config(), weights());
  import_base(from(), to(), DType::f32);
  const std::string whole = bytes_of(to());
  for (const Index piece : {1, 5, 17, 40}) {
    import_base(from(), to(), DType::f32, {}, piece);
    EXPECT_EQ(bytes_of(to()), whole) << piece;
  }
}

TEST_F(ImportTest, Bf16RoundsToNearest) {
  put(config(), weights());
  import_base(from(), to(), DType::bf16);
  const BaseFile base(to());
  base.verify();
  const TensorInfo up = find(tensor_table(base.shape()), "layers.0.mlp.up.weight");
  std::vector<kernels::bf16> values(64);
  base.read(up, AxisCut::whole(16), AxisCut::whole(4), kernels::view(values.data(), 16, 4));
  const auto expected = turned("h.0.mlp.c_fc.weight");
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i].bits, kernels::to_bf16(expected[i]).bits);
}

TEST_F(ImportTest, ShardsBuffersAndAnUntiedHead) {
  add("h.0.attn.bias", {1, 1, 3, 3}), add("h.0.attn.masked_bias", {}), add("lm_head.weight", {5, 4});
  put(config(R"(,"tie_word_embeddings":false,"n_inner":16,"layer_norm_epsilon":1e-6)"), "");
  std::filesystem::remove(from() + "/model.safetensors");
  SafetensorsBuilder first, second;
  std::string map;
  bool odd = false;
  for (const auto& [name, stored] : tensors_) {
    (odd ? first : second).add(name, stored.shape, stored.values);
    map += kernels::text(map.empty() ? "" : ",", "\"", name, "\":\"model-", odd ? 1 : 2, ".safetensors\"");
    odd = !odd;
  }
  put_bytes(from() + "/model-1.safetensors", first.bytes());
  put_bytes(from() + "/model-2.safetensors", second.bytes());
  put_bytes(from() + "/model.safetensors.index.json", R"({"weight_map":{)" + map + "}}");
  import_base(from(), to(), DType::f32);
  const BaseFile base(to());
  expect_imported(base);
  EXPECT_FALSE(base.shape().tied_head);
  EXPECT_EQ(base.shape().norm_eps, 1e-6f);
  EXPECT_EQ(read(base, "head.weight"), tensors_.at("lm_head.weight").values);
}

TEST_F(ImportTest, ATiedHeadMayBeStoredButMustBeTheEmbedding) {
  tensors_["lm_head.weight"] = tensors_["wte.weight"];
  put(config(), weights());
  EXPECT_EQ(import_base(from(), to(), DType::f32).tensors, 16);
  std::filesystem::remove(to());
  tensors_["lm_head.weight"].values[7] = 0.25f;
  refuse(config(), weights(), {"lm_head.weight differs from transformer.wte.weight"});
}

TEST_F(ImportTest, RefusesConfigsOfOtherModels) {
  const std::string bytes = weights();
  refuse(R"({"model_type":"bert"})", bytes, {"config.json", "model_type", "'bert'", "'gpt2'", "'llama'"});
  refuse(config(R"(,"activation_function":"relu")"), bytes, {"activation_function", "'relu'", "'gelu_new'"});
  refuse(config(R"(,"scale_attn_by_inverse_layer_idx":true)"), bytes,
         {"scale_attn_by_inverse_layer_idx", "found true"});
  refuse(config(R"(,"reorder_and_upcast_attn":true)"), bytes, {"reorder_and_upcast_attn"});
  refuse(config(R"(,"scale_attn_weights":false)"), bytes, {"scale_attn_weights", "found false"});
  refuse(config(R"(,"quantization_config":{})"), bytes, {"quantization_config"});
  refuse(config(R"(,"n_inner":-1)"), bytes, {"n_inner", "found -1"});
  refuse(config(R"(,"layer_norm_epsilon":0)"), bytes, {"layer_norm_epsilon", "found 0"});
  refuse(R"({"model_type":"gpt2","n_layer":1,"n_embd":4,"n_head":3,"vocab_size":5,"n_positions":3})", bytes,
         {"n_head", "found 3", "divisor of n_embd, 4"});
  refuse(R"({"model_type":"gpt2","n_layer":1,"n_embd":4,"n_head":2,"vocab_size":5})", bytes,
         {"n_positions", "nothing"});
  refuse("{", bytes, {"config.json", "invalid JSON"});
}

TEST_F(ImportTest, RefusesTensorsThatAreNotTheConfigs) {
  const auto all = tensors_;
  tensors_.erase("h.0.mlp.c_fc.bias");
  refuse(config(), weights(), {"model.safetensors", "'transformer.h.0.mlp.c_fc.bias' is missing"});
  tensors_ = all;
  add("h.1.ln_1.weight", {4});
  refuse(config(), weights(), {"'transformer.h.1.ln_1.weight' is none of"});
  tensors_ = all;
  add("h.0.mlp.c_fc.weight", {16, 4});
  refuse(config(), weights(), {"'transformer.h.0.mlp.c_fc.weight'", "found 16x4", "expected 4x16"});
  tensors_ = all;
  tensors_["h.0.mlp.c_fc.weight"].values[9] = std::numeric_limits<float>::infinity();
  refuse(config(), weights(), {"'transformer.h.0.mlp.c_fc.weight'", "inf", "element 9"});
  tensors_ = all;
  refuse(config(R"(,"tie_word_embeddings":false)"), weights(), {"'lm_head.weight' is missing"});
  std::filesystem::remove(from() + "/model.safetensors");
  expect_refused([&] { import_base(from(), to(), DType::f32); }, Failure::configuration, {from(), "model.safetensors"});
}

TEST_F(ImportTest, LeavesThePreviousFileWhenTheDiskIsFull) {
  put(config(), weights());
  import_base(from(), to(), DType::f32);
  const std::string before = bytes_of(to());
  {
    const LimitedFileSize full(before.size() / 2);
    expect_refused([&] { import_base(from(), to(), DType::f32); }, Failure::storage, {to(), "File too large"});
  }
  EXPECT_EQ(bytes_of(to()), before);
  EXPECT_EQ(directory_.entries(), 2u);
  expect_refused([&] { import_base(from(), directory_ / "no/base.h5", DType::f32); }, Failure::storage, {"no/base.h5"});
}

// Against the tests' own reading of the reference base.
TEST_F(ImportTest, ReadsTheGoldenBase) {
  const auto golden = oracle::golden_folder();
  if (!golden) GTEST_SKIP() << oracle::kNoGolden;
  import_base(*golden + "/gpt2/base", to(), DType::f32);
  const BaseFile base(to());
  base.verify();
  oracle::Model model = oracle::read_golden_base(*golden + "/gpt2/base");
  std::size_t compared = 0;
  for (const auto& tensor : oracle::named(model)) {
    const auto values = read(base, tensor.name);
    ASSERT_EQ(values.size(), tensor.array->values.size()) << tensor.name;
    for (std::size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(values[i], static_cast<float>(tensor.array->values[i])) << tensor.name;
    ++compared;
  }
  EXPECT_EQ(compared, tensor_table(base.shape()).size());
}

}  // namespace
}  // namespace lorashard::core
