// adapter_config.json of a PEFT directory: what it says about each module's rank and scale. PEFT is the Hugging Face
// library; the rules are those of its 0.21, peft/tuners/lora/config.py and peft/utils/other.py (get_pattern_key).
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/view.hpp"

namespace lorashard::core {

using kernels::Index;

class PeftConfig {
 public:
  // Throws Failure::configuration naming file, key, found and expected; what this program does not do (DoRA, modules to
  // save, ...) is refused by its key.
  explicit PeftConfig(const std::string& path);

  // `module` is its full name in the base model, "transformer.h.2.mlp.c_fc".
  Index rank_of(const std::string& module) const;
  // Finite, and not 0. Scale is alpha / rank. Rank-stabilised LoRA (alpha / sqrt(rank), arXiv 2312.03732) comes out as
  // another alpha.
  double alpha_of(const std::string& module) const;
  // Whether target_modules, exclude_modules and layers_to_transform put an adapter on this module of `layer`; nothing
  // where the file names no targets.
  std::optional<bool> adapts(const std::string& module, Index layer) const;
  const std::string& path() const { return path_; }

 private:
  // A regular expression for whole names, or names and ends of names behind a dot.
  struct Modules {
    std::optional<std::string> pattern;
    std::vector<std::string> names;
    bool have(const std::string& module) const { return std::find(names.begin(), names.end(), module) != names.end(); }
  };
  bool match(const Modules& modules, const std::string& module) const;
  // A whole name, or one of its ends behind a dot.
  enum class Part { whole, end };
  bool matches(const std::string& pattern, const std::string& module, Part part) const;
  double value_of(const std::vector<std::pair<std::string, double>>& patterns, const std::string& module,
                  double otherwise) const;

  std::string path_;
  std::optional<Modules> targets_;
  Modules excluded_;
  std::vector<Index> layers_;  // none: all
  double rank_ = 0, alpha_ = 0;
  bool rank_stabilised_ = false;
  std::vector<std::pair<std::string, double>> rank_patterns_, alpha_patterns_;  // the first that matches counts
};

}  // namespace lorashard::core
