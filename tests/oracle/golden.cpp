#include "tests/oracle/golden.hpp"

#include <boost/json.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
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

// What a module of Hugging Face's GPT-2 is called here, and the matrix an adapter on it sits on.
struct Module {
  const char* theirs;
  const char* ours;
  Where where;
  bool linear;  // stored (in, out)
};
constexpr Module kModules[] = {
    {"attn.c_attn", "attention.qkv", Where::qkv, true}, {"attn.c_proj", "attention.o", Where::o, true},
    {"mlp.c_fc", "mlp.up", Where::up, true},            {"mlp.c_proj", "mlp.down", Where::down, true},
    {"ln_1", "norm1", Where::qkv, false},      {"ln_2", "norm2", Where::qkv, false},
};

const Module& module_of(const std::string& theirs) {
  for (const Module& module : kModules)
    if (theirs == module.theirs) return module;
  throw std::runtime_error("no module is called " + theirs);
}

// Tensors outside the layers.
const std::map<std::string, std::string> kEnds{{"wte.weight", "embedding.token"},
                                               {"wpe.weight", "embedding.position"},
                                               {"ln_f.weight", "final_norm.weight"},
                                               {"ln_f.bias", "final_norm.bias"},
                                               {"lm_head.weight", "head.weight"}};

struct Parsed {
  Index layer;
  Module module;
  std::string leaf;  // weight, bias, lora_A, lora_B
  bool loralib;
};

Parsed parse_name(const std::string& name) {
  static const std::regex pattern(R"(h\.(\d+)\.(.+?)\.(weight|bias|lora_A|lora_B)(\.default)?(\.weight)?)");
  std::smatch match;
  if (!std::regex_match(name, match, pattern)) throw std::runtime_error("cannot translate the name " + name);
  const std::string leaf = match[3];
  return {std::stoll(match[1]), module_of(match[2]), leaf, leaf[0] == 'l' && !match[5].matched};
}

std::string without_prefix(std::string name) {
  for (const std::string prefix : {"base_model.model.", "transformer."})
    if (name.rfind(prefix, 0) == 0) name = name.substr(prefix.size());
  return name;
}

void translate(const std::string& name, const Array& array, std::map<std::string, Array>& to) {
  if (const auto end = kEnds.find(name); end != kEnds.end()) {
    to[end->second] = array;
    return;
  }
  const Parsed p = parse_name(name);
  if (p.leaf == "weight" || p.leaf == "bias") {
    const std::string ours = "layers." + std::to_string(p.layer) + "." + p.module.ours + "." + p.leaf;
    to[ours] = p.leaf == "weight" && p.module.linear ? transposed(array) : array;
    return;
  }
  const std::string leaf = p.leaf == "lora_A" ? ".lora_a" : ".lora_b";
  if (!p.loralib) {
    to[name_of(p.layer, p.module.where) + leaf] = array;
    return;
  }
  to[name_of(p.layer, Where::q) + leaf] = rows_of(array, 0, array.rows / 2);
  to[name_of(p.layer, Where::v) + leaf] = rows_of(array, array.rows / 2, array.rows / 2);
}

// The adapters that `values` holds, in the order of layers and matrices.
std::vector<Adapter> adapters_of(const std::map<std::string, Array>& values, double alpha, Index layers) {
  std::vector<Adapter> adapters;
  for (Index layer = 0; layer < layers; ++layer)
    for (Where where : {Where::q, Where::k, Where::v, Where::o, Where::up, Where::down, Where::qkv}) {
      const std::string name = name_of(layer, where);
      if (values.count(name + ".lora_a"))
        adapters.push_back({layer, where, alpha, values.at(name + ".lora_a"), values.at(name + ".lora_b")});
    }
  return adapters;
}

}  // namespace

std::optional<std::string> golden_folder() {
  const char* shared = std::getenv("LORASHARD_SHARED");
  const std::string folder = std::string(shared ? shared : "../shared") + "/golden";
  if (!std::filesystem::exists(folder + "/gpt2/base/model.safetensors")) return std::nullopt;
  return folder;
}

std::map<std::string, Array> translated(const std::map<std::string, Array>& tensors) {
  std::map<std::string, Array> result;
  for (const auto& [name, array] : tensors) translate(without_prefix(name), array, result);
  return result;
}

Model read_golden_base(const std::string& base_folder) {
  const json::value config = read_json(base_folder + "/config.json");
  Shape shape;
  shape.layers = number(config, "n_layer"), shape.width = number(config, "n_embd");
  shape.heads = number(config, "n_head"), shape.vocab = number(config, "vocab_size");
  shape.context = number(config, "n_positions"), shape.ffn = 4 * shape.width;
  shape.norm_eps = number(config, "layer_norm_epsilon");
  Model model = zeros(shape);
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
  r.adapters = adapters_of(translated(initial), alpha, kMostLayers);
  return r;
}

}  // namespace lorashard::oracle
