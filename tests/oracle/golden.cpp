#include "tests/oracle/golden.hpp"

#include <boost/json.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "tests/oracle/tensor_file.hpp"

namespace lorashard::oracle {
namespace {

namespace json = boost::json;

json::value read_json(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw std::runtime_error(path + ": cannot be read");
  return json::parse(std::string{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()});
}

std::vector<json::value> read_json_lines(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw std::runtime_error(path + ": cannot be read");
  std::vector<json::value> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line));
  return lines;
}

double number(const json::value& object, const char* key) { return object.as_object().at(key).to_number<double>(); }

// The adapters that `values` holds, in the order of layers and matrices.
std::vector<Adapter> adapters_of(const std::map<std::string, Array>& values, double alpha, Index layers,
                                 const std::string& family) {
  std::vector<Adapter> adapters;
  for (Index layer = 0; layer < layers; ++layer)
    for (Where where : {Where::q, Where::k, Where::v, Where::o, Where::gate, Where::up, Where::down, Where::qkv}) {
      const std::string name = name_of(layer, where, family);
      if (values.count(name + ".lora_a"))
        adapters.push_back({layer, where, alpha, values.at(name + ".lora_a"), values.at(name + ".lora_b")});
    }
  return adapters;
}

Shape gpt2_shape(const json::value& config) {
  Shape shape;
  shape.layers = number(config, "n_layer"), shape.width = number(config, "n_embd");
  shape.heads = number(config, "n_head"), shape.vocab = number(config, "vocab_size");
  shape.context = number(config, "n_positions"), shape.ffn = 4 * shape.width;
  shape.norm_eps = number(config, "layer_norm_epsilon");
  return shape;
}

Shape llama_shape(const json::value& config) {
  Shape shape;
  shape.family = "llama";
  shape.layers = number(config, "num_hidden_layers"), shape.width = number(config, "hidden_size");
  shape.heads = number(config, "num_attention_heads"), shape.kv_heads = number(config, "num_key_value_heads");
  shape.head_size = number(config, "head_dim"), shape.ffn = number(config, "intermediate_size");
  shape.vocab = number(config, "vocab_size"), shape.context = number(config, "max_position_embeddings");
  shape.norm_eps = number(config, "rms_norm_eps");
  shape.tied_head = config.at("tie_word_embeddings").as_bool();
  const json::value& rope = config.at("rope_parameters");
  if (rope.at("rope_type").as_string() != "default") throw std::runtime_error("positions that are scaled");
  shape.rope_theta = number(rope, "rope_theta");
  return shape;
}

}  // namespace

std::optional<std::string> golden_folder() {
  const char* shared = std::getenv("LORASHARD_SHARED");
  const std::string folder = std::string(shared ? shared : "../shared") + "/golden";
  if (!std::filesystem::exists(folder + "/gpt2/base/model.safetensors")) return std::nullopt;
  return folder;
}

Model read_golden_base(const std::string& base_folder) {
  const json::value config = read_json(base_folder + "/config.json");
  const json::string& family = config.at("model_type").as_string();
  Model model = zeros(family == "llama" ? llama_shape(config) : gpt2_shape(config));
  const std::map<std::string, Array> tensors = translated(read_tensor_file(base_folder + "/model.safetensors"));
  for (const Named& n : named(model)) *n.array = tensors.at(n.name);
  return model;
}

std::vector<Batch> read_golden_batches(const std::string& base_folder, Index rows) {
  std::vector<Batch> batches;
  Index n = 0;
  for (const json::value& line : read_json_lines(base_folder + "/rows.jsonl")) {
    if (n++ % rows == 0) batches.emplace_back();
    const json::array &ids = line.as_object().at("input_ids").as_array(),
                      &labels = line.as_object().at("labels").as_array();
    Batch& batch = batches.back();
    batch.length = static_cast<Index>(ids.size()) - 1;
    for (Index t = 0; t < batch.length; ++t) {
      batch.ids.push_back(ids[t].to_number<std::int32_t>());
      batch.labels.push_back(labels[t + 1].to_number<std::int32_t>());
    }
  }
  return batches;
}

GoldenRun read_golden_run(const std::string& folder) {
  const json::value run = read_json(folder + "/run.json");
  GoldenRun r;
  r.folder = folder;
  r.name = std::filesystem::path(folder).filename();
  r.settings = {number(run, "peak_lr"), number(run, "beta1"),  number(run, "beta2"),
                number(run, "eps"),     number(run, "weight_decay"), number(run, "clip"),
                run.at("warmup").to_number<Index>(), run.at("steps").to_number<Index>(),
                std::string(run.at("schedule").as_string())};
  r.label_smoothing = number(run, "label_smoothing");
  r.loss_after = number(run, "loss_after_training_on_step0_batch");
  r.batch = run.at("batch").to_number<Index>();
  for (const json::value& line : read_json_lines(folder + "/steps.jsonl"))
    r.steps.push_back({number(line, "loss"), number(line, "grad_norm"), number(line, "lr")});
  r.gradients_step1 = translated(read_tensor_file(folder + "/grads_step1.safetensors"));
  r.final_values = translated(read_tensor_file(folder + "/final.safetensors"));

  const json::string& method = run.at("method").as_string();
  r.full = method == "full";
  if (r.full) return r;
  const bool peft = method == "peft";
  r.adapter_source = folder + (peft ? "/initial" : "/initial.safetensors");
  const double alpha = peft ? number(run.at("lora"), "lora_alpha") : number(run, "alpha");
  const auto initial = read_tensor_file(peft ? r.adapter_source + "/adapter_model.safetensors" : r.adapter_source);
  constexpr Index kMostLayers = 64;
  const json::value config = read_json(folder + "/../base/config.json");
  const std::string family{config.at("model_type").as_string()};
  r.adapters = adapters_of(translated(initial), alpha, kMostLayers, family);
  return r;
}

}  // namespace lorashard::oracle
