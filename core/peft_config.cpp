#include "core/peft_config.hpp"

#include <boost/regex.hpp>
#include <cmath>
#include <limits>
#include <string_view>

#include "core/json_file.hpp"
#include "core/quote.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {
namespace {

namespace json = boost::json;
using kernels::Failure;
using kernels::text;

constexpr Index kMostRank = 1 << 20;

// Keys that are read below, or that change nothing about what a finished adapter computes.
constexpr std::string_view kHarmless[] = {"alpha_pattern",
                                          "auto_mapping",
                                          "base_model_name_or_path",
                                          "bias",
                                          "ensure_weight_tying",
                                          "eva_config",
                                          "exclude_modules",
                                          "fan_in_fan_out",
                                          "inference_mode",
                                          "init_lora_weights",
                                          "layers_pattern",
                                          "layers_to_transform",
                                          "lora_alpha",
                                          "lora_dropout",
                                          "megatron_core",
                                          "peft_type",
                                          "peft_version",
                                          "qalora_group_size",
                                          "r",
                                          "rank_pattern",
                                          "revision",
                                          "runtime_config",
                                          "target_modules",
                                          "task_type",
                                          "use_rslora"};

bool says_nothing(const json::value& value) {
  return value.is_null() || (value.is_bool() && !value.get_bool()) || (value.is_array() && value.get_array().empty()) ||
         (value.is_object() && value.get_object().empty());
}

void refuse_unsupported(const JsonFields& fields) {
  if (fields.text("peft_type") != "LORA") fields.refuse("peft_type", "'LORA'");
  for (const auto& item : fields.object) {
    const std::string_view key = item.key();
    if (std::find(std::begin(kHarmless), std::end(kHarmless), key) == std::end(kHarmless) &&
        !says_nothing(item.value()))
      fields.refuse(key, "nothing: this program does not do that");
  }
  if (fields.find("bias") && fields.text("bias") != "none") fields.refuse("bias", "'none'");
  // Other initial values (PiSSA, OLoRA, LoftQ, CorDA) go with a base whose weights were changed.
  const json::value* initial = fields.find("init_lora_weights");
  if (initial && !initial->is_bool() && *initial != "gaussian" && *initial != "eva" && *initial != "orthogonal")
    fields.refuse("init_lora_weights", "true, false, 'gaussian', 'eva' or 'orthogonal', which leave the base as it is");
}

std::vector<std::pair<std::string, double>> patterns_of(const JsonFields& fields, std::string_view key) {
  std::vector<std::pair<std::string, double>> patterns;
  const json::value* found = fields.find(key);
  if (!found) return patterns;
  if (!found->is_object()) fields.refuse(key, "an object of module patterns and numbers");
  const std::string place = text(fields.path, ": ", key);
  const JsonFields entries{found->get_object(), place};
  for (const auto& item : entries.object) patterns.emplace_back(item.key(), entries.real(item.key()));
  return patterns;
}

template <class Modules>
Modules modules_of(const JsonFields& fields, const char* key) {
  const json::value* found = fields.find(key);
  Modules modules;
  if (!found) return modules;
  if (found->is_string()) {
    // What stands for all linear modules but the head is written so only by hand.
    const std::string pattern(found->get_string());
    modules.pattern = pattern == "all-linear" ? ".*" : pattern;
    return modules;
  }
  if (!found->is_array()) fields.refuse(key, "an array of module names, or a regular expression");
  for (const json::value& name : found->get_array()) {
    if (!name.is_string()) fields.refuse(key, "an array of module names, or a regular expression");
    modules.names.emplace_back(name.get_string());
  }
  return modules;
}

}  // namespace

PeftConfig::PeftConfig(const std::string& path) : path_(path) {
  const json::object object = read_json_object(path);
  const JsonFields fields{object, path};
  refuse_unsupported(fields);
  rank_ = static_cast<double>(fields.integer("r", 1, kMostRank));
  alpha_ = fields.real("lora_alpha");
  rank_stabilised_ = fields.flag("use_rslora", false);
  if (fields.find("target_modules")) targets_ = modules_of<Modules>(fields, "target_modules");
  excluded_ = modules_of<Modules>(fields, "exclude_modules");
  layers_ = fields.integers("layers_to_transform", std::numeric_limits<Index>::min(), std::numeric_limits<Index>::max(),
                            "whole numbers");
  rank_patterns_ = patterns_of(fields, "rank_pattern");
  alpha_patterns_ = patterns_of(fields, "alpha_pattern");
}

// Boost.Regex gives up on a pattern that would take for ever.
bool PeftConfig::matches(const std::string& pattern, const std::string& module, Part part) const {
  try {
    return boost::regex_match(module, boost::regex(part == Part::end ? "(.*\\.)?(" + pattern + ")" : pattern));
  } catch (const std::runtime_error&) {
    kernels::fail(Failure::configuration, text(path_, ": found the pattern ", in_quotes(pattern),
                                               ", expected a regular expression for module names"));
  }
}

bool PeftConfig::match(const Modules& modules, const std::string& module) const {
  if (modules.pattern) return matches(*modules.pattern, module, Part::whole);
  return modules.have(module) || std::any_of(modules.names.begin(), modules.names.end(),
                                             [&](const std::string& name) { return module.ends_with("." + name); });
}

// PEFT asks for the layer only where the end of a name has matched (peft/tuners/tuners_utils.py,
// check_target_module_exists). Its layers_pattern finds the number in the name, which the caller knows.
std::optional<bool> PeftConfig::adapts(const std::string& module, Index layer) const {
  if (!targets_) return std::nullopt;
  if (match(excluded_, module) || !match(*targets_, module)) return false;
  const bool everywhere = targets_->pattern || targets_->have(module) || layers_.empty();
  return everywhere || std::find(layers_.begin(), layers_.end(), layer) != layers_.end();
}

// Patterns are regular expressions for the end of a module's name, after a dot or from its beginning.
double PeftConfig::value_of(const std::vector<std::pair<std::string, double>>& patterns, const std::string& module,
                            double otherwise) const {
  for (const auto& [pattern, value] : patterns)
    if (matches(pattern, module, Part::end)) return value;
  return otherwise;
}

Index PeftConfig::rank_of(const std::string& module) const {
  const double rank = value_of(rank_patterns_, module, rank_);
  if (!(rank >= 1 && rank <= kMostRank && rank == std::floor(rank)))
    kernels::fail(Failure::configuration, text(path_, ": rank_pattern: found rank ", rank, " for ", in_quotes(module),
                                               ", expected a whole number from 1 to ", kMostRank));
  return static_cast<Index>(rank);
}

double PeftConfig::alpha_of(const std::string& module) const {
  const double alpha = value_of(alpha_patterns_, module, alpha_), rank = static_cast<double>(rank_of(module));
  const double plain = rank_stabilised_ ? alpha * std::sqrt(rank) : alpha;
  const auto scale = static_cast<float>(plain / rank);
  if (!std::isfinite(scale) || scale == 0)
    kernels::fail(Failure::configuration, text(path_, ": found alpha ", alpha, " and rank ", rank, " for ",
                                               in_quotes(module), ", expected a finite scale other than 0"));
  return plain;
}

}  // namespace lorashard::core
