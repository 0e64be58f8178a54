// Files of the llama family, in and out: Hugging Face directories of its members, llama2.c's format.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>

#include "core/base_file.hpp"
#include "core/export.hpp"
#include "core/foreign_names.hpp"
#include "core/import.hpp"
#include "core/safetensors.hpp"
#include "tests/core/expect_refused.hpp"
#include "tests/core/safetensors_bytes.hpp"
#include "tests/core/temporary_directory.hpp"

namespace lorashard::core {
namespace {

using dist::AxisCut;
using kernels::DType;
using kernels::Failure;
using kernels::text;

constexpr const char* kConfig =
    R"({"model_type":"llama","num_hidden_layers":2,"hidden_size":8,"num_attention_heads":4,"num_key_value_heads":2,
        "intermediate_size":6,"vocab_size":5,"max_position_embeddings":16,"rms_norm_eps":1e-05)";

struct Stored {
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

// Two layers of width 8: 4 heads of 2 features over 2 key/value heads, feed-forward width 6, vocabulary 5.
class LlamaFiles : public testing::Test {
 protected:
  LlamaFiles() {
    add("model.embed_tokens.weight", {5, 8});
    add("model.norm.weight", {8});
    add("lm_head.weight", {5, 8});
    for (const int layer : {0, 1}) {
      const std::string block = text("model.layers.", layer, ".");
      add(block + "input_layernorm.weight", {8});
      add(block + "post_attention_layernorm.weight", {8});
      add(block + "self_attn.q_proj.weight", {8, 8});
      add(block + "self_attn.k_proj.weight", {4, 8});
      add(block + "self_attn.v_proj.weight", {4, 8});
      add(block + "self_attn.o_proj.weight", {8, 8});
      add(block + "mlp.gate_proj.weight", {6, 8});
      add(block + "mlp.up_proj.weight", {6, 8});
      add(block + "mlp.down_proj.weight", {8, 6});
    }
  }
  void add(const std::string& name, const std::vector<std::int64_t>& shape) {
    std::int64_t count = 1;
    for (const auto n : shape) count *= n;
    Stored stored{shape, {}};
    for (std::int64_t i = 0; i < count; ++i)
      stored.values.push_back(static_cast<float>(1000 * tensors_.size()) + static_cast<float>(i));
    tensors_[name] = stored;
  }
  void put(const std::string& config) {
    SafetensorsBuilder builder;
    for (const auto& [name, stored] : tensors_) builder.add(name, stored.shape, stored.values);
    std::filesystem::create_directory(from());
    put_bytes(from() + "/config.json", config);
    put_bytes(from() + "/model.safetensors", builder.bytes());
  }
  ModelShape import(const std::string& more, DType dtype = DType::f32) {
    put(kConfig + more + "}");
    return import_base(from(), to(), dtype).shape;
  }
  void refuse(const std::string& more, std::initializer_list<std::string> words) {
    put(kConfig + more + "}");
    expect_refused([&] { import_base(from(), to(), DType::f32); }, Failure::configuration, words);
  }
  std::vector<float> read(const std::string& name) const {
    const BaseFile base(to());
    const TensorInfo tensor = find(tensor_table(base.shape()), name);
    std::vector<float> values(static_cast<std::size_t>(tensor.rows * tensor.cols));
    base.read(tensor, AxisCut::whole(tensor.rows), AxisCut::whole(tensor.cols),
              kernels::view(values.data(), tensor.rows, tensor.cols));
    return values;
  }
  std::vector<float> together(std::initializer_list<const char*> names) const {
    std::vector<float> all;
    for (const char* name : names) {
      const auto& values = tensors_.at(text("model.layers.1.", name)).values;
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  }
  // Exported and read as a Hugging Face directory again: the names and values are the ones that went in.
  void expect_exported(Index file_bytes = 1 << 20) {
    const std::string out = directory_ / "out";
    std::filesystem::remove_all(out);
    export_base(to(), out, {}, 20, file_bytes);
    const bool one = std::filesystem::exists(out + "/model.safetensors");
    const SafeTensors found = SafeTensors::open(out + (one ? "/model.safetensors" : "/model.safetensors.index.json"));
    EXPECT_EQ(found.entries().size(), tensors_.size());
    for (const auto& [name, stored] : tensors_) {
      ASSERT_TRUE(found.has(name)) << name;
      EXPECT_EQ(found.entry(name).extents, std::vector<Index>(stored.shape.begin(), stored.shape.end())) << name;
      EXPECT_EQ(found.read(name), stored.values) << name;
    }
    const std::string again = directory_ / "again.h5";
    import_base(out, again, DType::f32);
    EXPECT_EQ(BaseFile(again).shape(), BaseFile(to()).shape());
    EXPECT_EQ(BaseFile(again).digest().hex(), BaseFile(to()).digest().hex());
  }
  std::string from() const { return directory_ / "hf"; }
  std::string to() const { return directory_ / "base.h5"; }

  TemporaryDirectory directory_;
  std::map<std::string, Stored> tensors_;
};

TEST_F(LlamaFiles, FusesWhatIsMultipliedTogether) {
  const ModelShape shape = import("");
  EXPECT_EQ(shape.family, "llama");
  EXPECT_EQ(shape.kv_heads, 2);
  EXPECT_EQ(shape.head_size(), 2);
  EXPECT_FALSE(shape.tied_head);
  EXPECT_EQ(shape.norm_eps, 1e-5f);
  EXPECT_EQ(BaseFile(to()).shape(), shape);
  BaseFile(to()).verify();
  EXPECT_EQ(read("layers.1.attention.qkv.weight"),
            together({"self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"}));
  EXPECT_EQ(read("layers.1.mlp.gate_up.weight"), together({"mlp.gate_proj.weight", "mlp.up_proj.weight"}));
  EXPECT_EQ(read("layers.1.mlp.down.weight"), together({"mlp.down_proj.weight"}));
  EXPECT_EQ(read("final_norm.weight"), tensors_.at("model.norm.weight").values);
  expect_exported();
  expect_exported(700);  // in several files
}

TEST_F(LlamaFiles, MembersOfTheFamily) {
  const auto plain = tensors_;
  for (const int layer : {0, 1})
    for (const auto& [name, rows] : {std::pair{"q", 8}, {"k", 4}, {"v", 4}})
      add(text("model.layers.", layer, ".self_attn.", name, "_proj.bias"), {rows});
  const std::string qwen2 = R"(,"model_type":"qwen2","tie_word_embeddings":false)";
  ModelShape shape = import(qwen2);
  EXPECT_TRUE(shape.qkv_bias);
  EXPECT_EQ(read("layers.1.attention.qkv.bias"),
            together({"self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"}));
  expect_exported();
  EXPECT_EQ(import(qwen2 + R"(,"use_sliding_window":false,"sliding_window":4,"max_window_layers":1)").window, 0);
  EXPECT_EQ(import(qwen2 + R"(,"use_sliding_window":true,"sliding_window":4,"max_window_layers":0)").window, 4);
  expect_exported();
  refuse(qwen2 + R"(,"use_sliding_window":true,"sliding_window":4,"max_window_layers":1)", {"max_window_layers", "found 1"});
  // What is absent is what the library takes; layer_types wins.
  EXPECT_EQ(import(qwen2 + R"(,"use_sliding_window":true,"sliding_window":4)").window, 0);
  EXPECT_EQ(import(qwen2 + R"(,"use_sliding_window":true,"max_window_layers":0)").window, 4096);
  const std::string types = qwen2 + R"(,"use_sliding_window":true,"sliding_window":4,"max_window_layers":1,"layer_types":)";
  EXPECT_EQ(import(types + R"(["sliding_attention","sliding_attention"])").window, 4);
  EXPECT_EQ(import(types + R"(["full_attention","full_attention"])").window, 0);
  refuse(types + R"(["full_attention","sliding_attention"])", {"layer_types", "1 of 2"});
  refuse(types + R"(["full_attention"])", {"layer_types", "an array of 2"});
  refuse(types + R"(["full_attention","chunked_attention"])", {"layer_types", "chunked_attention"});

  tensors_ = plain;
  for (const int layer : {0, 1})
    for (const char* name : {"q_norm", "k_norm"}) add(text("model.layers.", layer, ".self_attn.", name, ".weight"), {2});
  shape = import(R"(,"model_type":"qwen3","head_dim":2,"attention_bias":false)");
  EXPECT_TRUE(shape.qk_norm);
  EXPECT_EQ(shape.own_head_size, 0);
  expect_exported();
  refuse(R"(,"model_type":"qwen3","attention_bias":true)", {"attention_bias", "found true"});

  tensors_ = plain;
  EXPECT_EQ(import(R"(,"model_type":"mistral","sliding_window":3)").window, 3);
  expect_exported();
  EXPECT_EQ(import(R"(,"model_type":"mistral","sliding_window":null)").window, 0);
  EXPECT_EQ(import(R"(,"model_type":"mistral")").window, 4096);
}

TEST_F(LlamaFiles, HeadsOfTheirOwnSizeAndATiedHead) {
  for (const int layer : {0, 1}) {
    const std::string block = text("model.layers.", layer, ".self_attn.");
    add(block + "q_proj.weight", {16, 8});
    add(block + "k_proj.weight", {8, 8});
    add(block + "v_proj.weight", {8, 8});
    add(block + "o_proj.weight", {8, 16});
  }
  tensors_.erase("lm_head.weight");
  const ModelShape shape = import(R"(,"head_dim":4,"tie_word_embeddings":true)");
  EXPECT_EQ(shape.own_head_size, 4);
  EXPECT_TRUE(shape.tied_head);
  expect_exported();
}

TEST_F(LlamaFiles, ScaledPositions) {
  const auto rope = [&](const std::string& more) {
    const RopeShape shape = import(more).rope;
    expect_exported();
    return shape;
  };
  EXPECT_EQ(rope(R"(,"rope_theta":500000)").theta, 500000);
  const RopeShape linear = rope(R"(,"rope_scaling":{"type":"linear","factor":4})");
  EXPECT_EQ(linear.scaling, RopeScaling::linear);
  EXPECT_EQ(linear.factor, 4);
  const RopeShape llama3 = rope(R"(,"rope_parameters":{"rope_type":"llama3","rope_theta":500000.0,"factor":8,
      "low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":8})");
  EXPECT_EQ(llama3.scaling, RopeScaling::llama3);
  EXPECT_EQ(llama3.theta, 500000);
  EXPECT_EQ(llama3.original_context, 8);
  const RopeShape yarn = rope(R"(,"rope_scaling":{"rope_type":"yarn","factor":4,"original_max_position_embeddings":4})");
  EXPECT_EQ(yarn.scaling, RopeScaling::yarn);
  EXPECT_EQ(yarn.high, 32);
  refuse(R"(,"rope_scaling":{"rope_type":"dynamic","factor":4})", {"rope_scaling", "rope_type", "'dynamic'", "'yarn'"});
  refuse(R"(,"rope_scaling":{"rope_type":"yarn","factor":4,"mscale":1})", {"mscale", "found 1"});
  refuse(R"(,"rope_scaling":{"rope_type":"linear"})", {"factor", "found nothing"});
  refuse(R"(,"partial_rotary_factor":0.5)", {"partial_rotary_factor", "expected 1"});
}

TEST_F(LlamaFiles, RefusesWhatItDoesNotDo) {
  refuse(R"(,"hidden_act":"gelu")", {"hidden_act", "'gelu'", "'silu'"});
  refuse(R"(,"mlp_bias":true)", {"mlp_bias", "found true"});
  refuse(R"(,"attention_bias":true)", {"attention_bias"});
  refuse(R"(,"head_dim":3)", {"head_dim", "found 3"});
  refuse(R"(,"num_key_value_heads":3)", {"num_key_value_heads", "found 3"});
  add("model.layers.0.self_attn.k_proj.weight", {8, 8});
  refuse("", {"'model.layers.0.self_attn.k_proj.weight'", "found 8x8", "expected 4x8"});
  add("model.layers.0.self_attn.k_proj.weight", {4, 8});
  tensors_["model.layers.1.mlp.up_proj.weight"].values[13] = NAN;
  refuse("", {"'model.layers.1.mlp.up_proj.weight'", "element 13", "nan"});
  add("model.layers.1.mlp.up_proj.weight", {6, 8});
  add("model.layers.0.self_attn.q_proj.bias", {8});
  refuse("", {"'model.layers.0.self_attn.q_proj.bias' is none of"});
}

// Width 8, 2 heads of 4 features: the pair of feature 1 is feature 0 here, and feature 2 or 3 of a half there.
TEST(RotaryOrder, ThereAndBackAgain) {
  const std::vector<float> neighbours{0, 1, 2, 3, 10, 11, 12, 13};
  const std::vector<float> halves{0, 2, 1, 3, 10, 12, 11, 13};
  EXPECT_EQ(neighbours_to_halves(neighbours, 1, 4), halves);
  EXPECT_EQ(halves_to_neighbours(halves, 1, 4), neighbours);
}

class Llama2c : public testing::Test {
 protected:
  // One layer, width 8, 2 heads of 4, 1 key/value head, feed-forward 4, vocabulary 3 (tied), context 2.
  static std::string bytes(std::vector<std::int32_t> header = {8, 4, 1, 2, 1, 3, 2}, std::size_t values = 360) {
    std::vector<float> data(values);
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>(i);
    return raw(header) + raw(data);
  }
  TemporaryDirectory directory_;
};

TEST_F(Llama2c, IsReadAndGoesOutAsHuggingFaceHasIt) {
  // 24 embedding, 8 norm, 64 q, 32 k, 32 v, 64 o, 8 norm, 32 gate, 32 down, 32 up, 8 norm, 4 + 4 positions.
  const std::size_t values = 24 + 8 + 64 + 32 + 32 + 64 + 8 + 32 + 32 + 32 + 8 + 8;
  put_bytes(directory_ / "m.bin", bytes({8, 4, 1, 2, 1, 3, 2}, values));
  const ModelShape shape = import_base(directory_ / "m.bin", directory_ / "m.h5", DType::f32).shape;
  EXPECT_TRUE(shape.rope.neighbours);
  EXPECT_TRUE(shape.tied_head);
  export_base(directory_ / "m.h5", directory_ / "hf");
  const SafeTensors out = SafeTensors::open(directory_ / "hf/model.safetensors");
  const std::vector<float> q = out.read("model.layers.0.self_attn.q_proj.weight");
  for (const auto& [row, expected] : {std::pair{0, 32}, {1, 32 + 16}, {2, 32 + 8}, {3, 32 + 24}, {4, 32 + 32}})
    EXPECT_EQ(q[static_cast<std::size_t>(8 * row)], static_cast<float>(expected)) << row;
  EXPECT_EQ(out.read("model.layers.0.self_attn.v_proj.weight")[8], 24 + 8 + 64 + 32 + 8);
  EXPECT_EQ(out.read("model.layers.0.mlp.gate_proj.weight")[0], 24 + 8 + 64 + 32 + 32 + 64 + 8);
  EXPECT_EQ(out.read("model.layers.0.mlp.up_proj.weight")[0], 24 + 8 + 64 + 32 + 32 + 64 + 8 + 32 + 32);

  const auto refuse = [&](const std::string& content, std::initializer_list<std::string> words) {
    put_bytes(directory_ / "bad.bin", content);
    expect_refused([&] { import_base(directory_ / "bad.bin", directory_ / "bad.h5", DType::f32); }, Failure::configuration,
                   words);
    EXPECT_FALSE(std::filesystem::exists(directory_ / "bad.h5"));
  };
  refuse(bytes({8, 4, 1, 2, 1, 3, 2}, values - 1), {"bad.bin", "bytes, expected"});
  refuse(bytes({8, 4, 1, 3, 1, 3, 2}, values), {"n_heads", "found 3"});
  refuse(bytes({8, 4, 0, 2, 1, 3, 2}, values), {"n_layers", "found 0"});
  refuse("abc", {"bad.bin", "header"});
}

}  // namespace
}  // namespace lorashard::core
