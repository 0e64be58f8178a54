// Some thousand damaged files: each is refused with one line that names it and leaves nothing behind, or holds what an
// independent reader finds in it.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <filesystem>

#include "core/adapter_file.hpp"
#include "core/base_file.hpp"
#include "core/export.hpp"
#include "core/foreign_config.hpp"
#include "core/foreign_names.hpp"
#include "core/import.hpp"
#include "core/tokenizer.hpp"
#include "tests/core/made_checkpoint.hpp"
#include "tests/core/made_tokenizer.hpp"
#include "tests/core/mutator.hpp"
#include "tests/core/temporary_directory.hpp"
#include "tests/oracle/tensor_file.hpp"

namespace lorashard::core {
namespace {

namespace fs = std::filesystem;
using dist::AxisCut;
using kernels::Failure;
using kernels::text;

// Far above what files of a few kilobytes need (a vocabulary may have a million ids), and what the sanitizers keep
// back.
constexpr long kMostMemory_kib = 768 * 1024;

long peak_memory_kib() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

constexpr const char* kLlama =
    R"({"model_type":"llama","num_hidden_layers":2,"hidden_size":8,"num_attention_heads":4,"num_key_value_heads":2,
        "intermediate_size":6,"vocab_size":5,"max_position_embeddings":16,"rms_norm_eps":1e-05,"hidden_act":"silu",
        "tie_word_embeddings":false,"attention_bias":false,"rope_parameters":{"rope_type":"llama3","rope_theta":500000.0,
        "factor":8,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":8}})";

class MutatedFiles : public testing::Test {
 protected:
  MutatedFiles() { fs::create_directory(folder()); }
  std::string folder() const { return directory_ / "given"; }
  std::string at(const std::string& name) const { return folder() + "/" + name; }
  std::string made() const { return directory_ / "made"; }

  void put(const std::string& name, const std::string& content) {
    good_[name] = content;
    put_bytes(at(name), content);
  }

  // Damages one of the files a time. `attempt` reads what is there, may write made(), and checks what it accepts.
  template <class Attempt>
  void feed(unsigned rounds, const Attempt& attempt) {
    attempt();  // as they are
    fs::remove_all(made());
    const long before_kib = peak_memory_kib();
    Mutator mutate(7);
    unsigned refused = 0;
    for (unsigned round = 0; round < rounds; ++round) {
      const auto file = std::next(good_.begin(), round % static_cast<unsigned>(good_.size()));
      const std::string damaged = mutate(file->first, file->second);
      SCOPED_TRACE(
          text("round ", round, ", ", file->first, ": ", damaged.size() < 3000 ? damaged : damaged.substr(0, 300)));
      put_bytes(at(file->first), damaged);
      refused += is_refused(attempt);
      if (fs::exists(made())) fs::remove_all(made());
      EXPECT_EQ(directory_.entries(), 1u) << "something was left behind";
      put_bytes(at(file->first), file->second);
    }
    EXPECT_GT(refused, rounds / 3);
    EXPECT_LT(refused, rounds) << "no harmless change was among them";
    EXPECT_LT(peak_memory_kib() - before_kib, kMostMemory_kib);
  }

  template <class Attempt>
  bool is_refused(const Attempt& attempt) {
    try {
      attempt();
      return false;
    } catch (const kernels::Error& error) {
      const std::string what = error.what();
      EXPECT_TRUE(error.failure() == Failure::configuration || error.failure() == Failure::storage) << what;
      EXPECT_EQ(what.find('\n'), what.npos) << what;
      EXPECT_NE(what.find(folder()), what.npos) << what;
      EXPECT_LT(what.size(), 1000u) << what;
      EXPECT_FALSE(fs::exists(made())) << what;
    } catch (const std::exception& error) {
      ADD_FAILURE() << "another exception: " << error.what();
    }
    return true;
  }

  void put_model(bool sharded) {
    SafetensorsBuilder parts[2];
    boost::json::object map;
    int count = 0;
    const auto add = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
      std::vector<float> values(static_cast<std::size_t>(shape[0] * (shape.size() > 1 ? shape[1] : 1)));
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = static_cast<float>(count * 100) + static_cast<float>(i);
      const int part = sharded ? count++ % 2 : 0;
      parts[part].add(name, shape, values);
      map[name] = text("model-", part, ".safetensors");
    };
    add("model.embed_tokens.weight", {5, 8});
    add("model.norm.weight", {8});
    add("lm_head.weight", {5, 8});
    for (const int layer : {0, 1}) {
      const std::string block = text("model.layers.", layer, ".");
      for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) add(block + norm + ".weight", {8});
      const std::pair<const char*, std::vector<std::int64_t>> matrices[] = {
          {"self_attn.q_proj", {8, 8}}, {"self_attn.k_proj", {4, 8}}, {"self_attn.v_proj", {4, 8}},
          {"self_attn.o_proj", {8, 8}}, {"mlp.gate_proj", {6, 8}},    {"mlp.up_proj", {6, 8}},
          {"mlp.down_proj", {8, 6}}};
      for (const auto& [name, shape] : matrices) add(block + name + ".weight", shape);
    }
    put("config.json", kLlama);
    if (!sharded) return put("model.safetensors", parts[0].bytes());
    put("model-0.safetensors", parts[0].bytes());
    put("model-1.safetensors", parts[1].bytes());
    put("model.safetensors.index.json",
        boost::json::serialize(boost::json::object{{"metadata", {{"total_size", 1}}}, {"weight_map", map}}));
  }

  // What the oracle finds in all .safetensors files.
  std::map<std::string, oracle::Array> stored() const {
    std::map<std::string, oracle::Array> all;
    for (const auto& [name, content] : good_)
      if (name.ends_with(".safetensors")) all.merge(oracle::read_tensor_file(at(name)));
    return all;
  }

  void import_and_compare() {
    import_base(folder(), made(), kernels::DType::f32);
    const BaseFile base(made());
    base.verify();
    const auto theirs = stored();
    for (const TensorInfo& tensor : tensor_table(base.shape())) {
      std::vector<float> ours(static_cast<std::size_t>(tensor.rows * tensor.cols));
      base.read(tensor, AxisCut::whole(tensor.rows), AxisCut::whole(tensor.cols),
                kernels::view(ours.data(), tensor.rows, tensor.cols));
      auto value = ours.begin();
      for (const ForeignPart& part : foreign_parts(tensor, base.shape()))
        for (const double expected : theirs.at(part.name).values)
          EXPECT_EQ(*value++, static_cast<float>(expected)) << part.name;
      EXPECT_EQ(value, ours.end()) << tensor.name;
    }
  }

  void load_and_compare(const ModelShape& shape) {
    const std::vector<AdapterPair> pairs = read_adapter(folder(), shape);
    const auto theirs = stored();
    for (const AdapterPair& pair : pairs) {
      EXPECT_TRUE(std::isfinite(pair.alpha) && pair.alpha != 0);
      const auto modules = foreign_modules(shape);
      const auto module =
          std::find_if(modules.begin(), modules.end(), [&](const auto& m) { return m.target == pair.target; });
      const std::string name = "base_model.model." + foreign_block(shape, pair.layer) + module->name;
      for (const auto& [values, ending] : {std::pair{&pair.a, ".lora_A.weight"}, {&pair.b, ".lora_B.weight"}}) {
        const std::vector<double>& expected = theirs.at(name + ending).values;
        ASSERT_EQ(values->size(), expected.size()) << name;
        EXPECT_TRUE(std::equal(expected.begin(), expected.end(), values->begin())) << name << ending;
      }
      EXPECT_EQ(static_cast<Index>(pair.a.size()), pair.rank * pair.in);
      EXPECT_EQ(static_cast<Index>(pair.b.size()), pair.rank * pair.out);
    }
  }

  TemporaryDirectory directory_;
  std::map<std::string, std::string> good_;
};

TEST_F(MutatedFiles, ModelInOneFile) {
  put_model(false);
  feed(300, [&] { import_and_compare(); });
}

TEST_F(MutatedFiles, ModelInManyFiles) {
  put_model(true);
  feed(300, [&] { import_and_compare(); });
}

TEST_F(MutatedFiles, ModelConfigurations) {
  put("config.json", kLlama);
  feed(300, [&] {
    const ModelShape shape = read_foreign_config(at("config.json"));
    EXPECT_EQ(shape.heads % shape.kv_heads, 0);
    EXPECT_GT(shape.head_size(), 0);
    EXPECT_TRUE(std::isfinite(shape.rope.theta) && std::isfinite(shape.rope.factor));
    EXPECT_TRUE(shape.norm_eps > 0 && shape.norm_eps < 1);
  });
}

// With digests, as this program exports them, and without.
TEST_F(MutatedFiles, PeftAdapters) {
  const Config config =
      made_job("family = llama\nkv_heads = 2\n[adapter]\ntargets = all\nrank = 2\nrank.up = 3\nalpha.q = 7\n");
  const std::string checkpoint = directory_ / "adapter.h5", exported = directory_ / "exported";
  make_checkpoint(checkpoint, config);
  export_adapter(checkpoint, "", exported);
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors"})
    put(name, bytes_of(exported + "/" + name));
  fs::remove(checkpoint), fs::remove_all(exported);
  feed(300, [&] { load_and_compare(config.model.shape); });
  const std::string weights = good_["adapter_model.safetensors"];
  const std::string begin = "{\"__metadata__\":{", end = "},";
  const std::size_t from = weights.find(begin), to = weights.find(end, from) + end.size();
  std::uint64_t length = 0;
  std::memcpy(&length, weights.data(), 8);
  put("adapter_model.safetensors",
      safetensors_bytes("{" + weights.substr(to, 8 + length - to), weights.substr(8 + length)));
  feed(300, [&] { load_and_compare(config.model.shape); });
}

TEST_F(MutatedFiles, Tokenizers) {
  MadeTokenizer tiny;
  tiny.add("<s>", 9, true), tiny.add("</s>", 10, true);
  tiny.file()["normalizer"] = boost::json::parse(
      R"({"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Replace","pattern":{"String":"x"},"content":"a"}]})");
  tiny.file()["pre_tokenizer"] =
      boost::json::parse(R"({"type":"Split","pattern":{"Regex":"[abc]+|\\s"},"behavior":"Isolated","invert":false})");
  tiny.file()["post_processor"] = boost::json::parse(
      R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],
          "special_tokens":{"<s>":{"id":"<s>","ids":[9],"tokens":["<s>"]}}})");
  put("tokenizer.json", boost::json::serialize(tiny.json));
  put("tokenizer_config.json", R"({"eos_token":"</s>","bos_token":{"content":"<s>","lstrip":false}})");
  put("generation_config.json", R"({"eos_token_id":[10,2],"bos_token_id":9})");
  put("special_tokens_map.json", R"({"eos_token":{"content":"</s>"}})");
  feed(500, [&] {
    const auto tokenizer = make_tokenizer(folder());
    EXPECT_FALSE(tokenizer->ends_of_text().empty());
    const auto ids = tokenizer->encode("abc cab x<s>", {.specials = true, .frame = true});
    std::string streamed;
    StreamDecoder stream(*tokenizer);
    for (const std::int32_t id : ids) streamed += stream.next(id);
    EXPECT_EQ(streamed + stream.finish(), tokenizer->decode(ids));
  });
}

TEST_F(MutatedFiles, Checkpoints) {
  const Config config = made_job("[adapter]\ntargets = q,up\nrank = 2\n");
  const auto values = make_checkpoint(at("adapter.h5"), config);
  put("adapter.h5", bytes_of(at("adapter.h5")));
  std::map<std::string, std::string> exported;
  feed(300, [&] {
    const CheckpointReader reader(at("adapter.h5"));
    reader.verify();
    EXPECT_EQ(reader.info().config, canonical_text(config));
    ASSERT_EQ(reader.entries().size(), values.size());
    for (const CheckpointEntry& entry : reader.entries()) {
      std::vector<float> found(static_cast<std::size_t>(entry.rows * entry.cols));
      reader.read(entry.name, AxisCut::whole(entry.rows), AxisCut::whole(entry.cols),
                  kernels::view(found.data(), entry.rows, entry.cols));
      EXPECT_EQ(found, values.at(entry.name));
    }
    export_adapter(at("adapter.h5"), "", made());
    for (const char* name : {"adapter_config.json", "adapter_model.safetensors"}) {
      const std::string content = bytes_of(made() + "/" + name);
      EXPECT_EQ(content, exported.emplace(name, content).first->second);
    }
  });
}

TEST_F(MutatedFiles, Bases) {
  put_model(false);
  import_base(folder(), at("base.h5"), kernels::DType::bf16);
  good_.clear();
  put("base.h5", bytes_of(at("base.h5")));
  const Digest digest = BaseFile(at("base.h5")).digest();
  feed(300, [&] {
    const BaseFile base(at("base.h5"));
    base.verify();
    EXPECT_EQ(base.digest(), digest);
    export_base(at("base.h5"), made());
  });
}

}  // namespace
}  // namespace lorashard::core
