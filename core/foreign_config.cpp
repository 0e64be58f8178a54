#include "core/foreign_config.hpp"

#include <algorithm>

#include "core/json_file.hpp"
#include "core/quote.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;
namespace json = boost::json;

constexpr std::int64_t kMostContext = 1 << 24;

void expect_flag(const JsonFields& config, const char* key, bool expected, bool absent) {
  if (config.flag(key, absent) != expected) config.refuse(key, expected ? "true" : "false");
}

float epsilon_of(const JsonFields& config, const char* key, float absent) {
  const float eps = config.find(key) ? static_cast<float>(config.real(key)) : absent;
  if (!(eps > 0 && eps < 1)) config.refuse(key, "a number between 0 and 1");
  return eps;
}

ModelShape read_gpt2(const JsonFields& config) {
  const auto* activation = config.find("activation_function");
  if (activation && *activation != "gelu_new" && *activation != "gelu_pytorch_tanh")
    config.refuse("activation_function", "'gelu_new' or 'gelu_pytorch_tanh'");
  expect_flag(config, "scale_attn_weights", true, true);
  expect_flag(config, "scale_attn_by_inverse_layer_idx", false, false);
  expect_flag(config, "reorder_and_upcast_attn", false, false);
  expect_flag(config, "add_cross_attention", false, false);
  ModelShape shape;
  shape.layers = config.integer("n_layer", 1, 10'000);
  shape.width = config.integer("n_embd", 1, 1 << 20);
  shape.heads = shape.kv_heads = config.integer("n_head", 1, shape.width);
  shape.ffn = config.integer("n_inner", 1, 1 << 22, 4 * shape.width);
  shape.vocab = config.integer("vocab_size", 1, 1 << 24);
  shape.context = config.integer("n_positions", 1, kMostContext);
  shape.tied_head = config.flag("tie_word_embeddings", true);
  shape.norm_eps = epsilon_of(config, "layer_norm_epsilon", 1e-5f);
  if (shape.width % shape.heads != 0) config.refuse("n_head", text("a divisor of n_embd, ", shape.width));
  return shape;
}

double positive(const JsonFields& fields, const char* key, double absent) {
  const double value = fields.find(key) ? fields.real(key) : absent;
  if (!(value > 0 && value < 1e12)) fields.refuse(key, "a number above 0");
  return value;
}

RopeScaling scaling_of(const JsonFields& rope, const char* key) {
  const std::string type = rope.find(key) ? rope.text(key) : "default";
  if (type == "default") return RopeScaling::none;
  if (type == "linear") return RopeScaling::linear;
  if (type == "llama3") return RopeScaling::llama3;
  if (type == "yarn") return RopeScaling::yarn;
  rope.refuse(key, "'default', 'linear', 'llama3' or 'yarn'");
}

// Names and defaults are those of the library's modeling_rope_utils.
void read_scaling(const JsonFields& rope, Index context, RopeShape& shape) {
  shape.scaling = scaling_of(rope, rope.find("rope_type") ? "rope_type" : "type");
  if (rope.find("partial_rotary_factor") && rope.real("partial_rotary_factor") != 1)
    rope.refuse("partial_rotary_factor", "1: all features of a head turn");
  if (shape.scaling == RopeScaling::none) return;
  shape.factor = positive(rope, "factor", 0);
  shape.original_context =
      shape.scaling == RopeScaling::linear ? 0 : rope.integer("original_max_position_embeddings", 1, kMostContext, context);
  if (shape.scaling == RopeScaling::llama3) {
    shape.low = positive(rope, "low_freq_factor", 0);
    shape.high = positive(rope, "high_freq_factor", 0);
    if (!(shape.low < shape.high)) rope.refuse("low_freq_factor", text("less than high_freq_factor, ", shape.high));
  }
  if (shape.scaling != RopeScaling::yarn) return;
  shape.low = positive(rope, "beta_slow", 1);
  shape.high = positive(rope, "beta_fast", 32);
  if (rope.find("attention_factor")) shape.attention_factor = positive(rope, "attention_factor", 1);
  for (const char* key : {"mscale", "mscale_all_dim"})
    if (rope.find(key) && rope.real(key) != 0) rope.refuse(key, "nothing: this program does not do that");
  if (!rope.flag("truncate", true)) rope.refuse("truncate", "true");
}

void read_positions(const JsonFields& config, Index context, RopeShape& shape) {
  const json::value* rope = config.find("rope_parameters");
  const char* key = rope ? "rope_parameters" : "rope_scaling";
  if (!rope) rope = config.find(key);
  shape.theta = positive(config, "rope_theta", 10000);
  if (config.find("partial_rotary_factor") && config.real("partial_rotary_factor") != 1)
    config.refuse("partial_rotary_factor", "1: all features of a head turn");
  if (!rope) return;
  if (!rope->is_object()) config.refuse(key, "an object");
  const std::string path = text(config.path, ": ", key);
  const JsonFields fields{rope->get_object(), path};
  if (fields.find("rope_theta")) shape.theta = positive(fields, "rope_theta", 0);
  read_scaling(fields, context, shape);
}

// Layers that see a window: "layer_types" has a word for each, otherwise those from max_window_layers on.
Index windowed_layers(const JsonFields& config, Index layers) {
  const json::value* types = config.find("layer_types");
  if (!types) return std::max<Index>(0, layers - config.integer("max_window_layers", 0, 1 << 20, 28));
  const json::array* words = types->if_array();
  if (!words || static_cast<Index>(words->size()) != layers) config.refuse("layer_types", text("an array of ", layers, " words"));
  Index count = 0;
  for (const json::value& word : *words) {
    if (word != "full_attention" && word != "sliding_attention")
      config.refuse("layer_types", text("'full_attention' or 'sliding_attention', found ", shown(&word)));
    count += word == "sliding_attention";
  }
  return count;
}

// All layers alike, or refused. A key that is absent has the library's value, null is none.
Index window_of(const JsonFields& config, const std::string& type, Index layers) {
  if (type == "llama" || (type != "mistral" && !config.flag("use_sliding_window", false))) return 0;
  if (config.object.contains("sliding_window") && !config.find("sliding_window")) return 0;
  const Index window = config.integer("sliding_window", 1, kMostContext, 4096);
  const Index windowed = type == "mistral" ? layers : windowed_layers(config, layers);
  if (windowed != 0 && windowed != layers)
    config.refuse(config.find("layer_types") ? "layer_types" : "max_window_layers",
                  text("all layers to see the same window: ", windowed, " of ", layers, " do"));
  return windowed == 0 ? 0 : window;
}

ModelShape read_llama(const JsonFields& config, const std::string& type) {
  if (config.find("hidden_act") && config.text("hidden_act") != "silu") config.refuse("hidden_act", "'silu'");
  expect_flag(config, "mlp_bias", false, false);
  if (type != "qwen2") expect_flag(config, "attention_bias", false, false);
  if (config.find("pretraining_tp") && config.integer("pretraining_tp", 1, 1 << 20) != 1)
    config.refuse("pretraining_tp", "1");
  ModelShape shape;
  shape.family = "llama";
  shape.layers = config.integer("num_hidden_layers", 1, 10'000);
  shape.width = config.integer("hidden_size", 1, 1 << 20);
  shape.heads = config.integer("num_attention_heads", 1, 1 << 16);
  shape.kv_heads = config.integer("num_key_value_heads", 1, shape.heads, shape.heads);
  if (shape.heads % shape.kv_heads != 0)
    config.refuse("num_key_value_heads", text("a divisor of num_attention_heads, ", shape.heads));
  const Index usual = shape.width % shape.heads == 0 ? shape.width / shape.heads : 0;
  if (usual == 0 && !config.find("head_dim")) config.refuse("num_attention_heads", text("a divisor of hidden_size, ", shape.width));
  const Index head_size = config.integer("head_dim", 2, 1 << 16, usual == 0 ? 2 : usual);
  if (head_size % 2 != 0) config.refuse("head_dim", "an even number");
  shape.own_head_size = head_size == usual ? 0 : head_size;
  shape.ffn = config.integer("intermediate_size", 1, 1 << 22);
  shape.vocab = config.integer("vocab_size", 1, 1 << 24);
  shape.context = config.integer("max_position_embeddings", 1, kMostContext);
  shape.tied_head = config.flag("tie_word_embeddings", false);
  shape.norm_eps = epsilon_of(config, "rms_norm_eps", 1e-6f);
  shape.qkv_bias = type == "qwen2";
  shape.qk_norm = type == "qwen3";
  shape.window = window_of(config, type, shape.layers);
  read_positions(config, shape.context, shape.rope);
  return shape;
}

}  // namespace

ModelShape read_foreign_config(const std::string& path) {
  const json::object object = read_json_object(path);
  const JsonFields config{object, path};
  if (config.find("quantization_config"))
    config.refuse("quantization_config", "nothing: quantized weights are not read");
  const std::string type = config.text("model_type");
  if (type == "gpt2") return read_gpt2(config);
  if (type == "llama" || type == "mistral" || type == "qwen2" || type == "qwen3") return read_llama(config, type);
  config.refuse("model_type", "'gpt2', 'llama', 'mistral', 'qwen2' or 'qwen3'");
}

}  // namespace lorashard::core
