// A model as llama2.c stores it (karpathy/llama2.c, format 0: "model.bin"): seven integers, then every tensor in f32, those of
// all layers together. Its rotary pairs are neighbours.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/config.hpp"

namespace lorashard::core {

class Llama2cFile {
 public:
  // Throws Failure::configuration naming file, field, found and expected, also when the file's length is not the one
  // that its header asks for.
  explicit Llama2cFile(const std::string& path);

  const std::string& path() const { return path_; }
  const ModelShape& shape() const { return shape_; }
  // By the names of Hugging Face: "model.layers.3.self_attn.q_proj.weight".
  const std::map<std::string, std::vector<Index>>& extents() const { return extents_; }
  // Elements [first, first + count) of a tensor in storage order. NaN and infinity are refused, naming the element.
  std::vector<float> read_finite(const std::string& tensor, Index first, Index count) const;

 private:
  void add(const std::string& name, std::vector<Index> extents);
  void add_layers(const std::string& name, const std::vector<Index>& extents);

  std::string path_;
  ModelShape shape_;
  std::map<std::string, std::vector<Index>> extents_;
  std::map<std::string, Index> offsets_;  // in elements behind the header
  Index elements_ = 0;
};

}  // namespace lorashard::core
