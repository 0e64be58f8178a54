// ../shared/models/gpt-nano-sort: a trained model of GPT-2's kind, whose author recorded the activations of a forward
// pass in PyTorch's float32 (README.md there says what each is).
#pragma once

#include <bit>
#include <boost/json.hpp>
#include <cstring>
#include <fstream>
#include <iterator>

#include "tests/oracle/golden.hpp"

namespace lorashard::core::gpt_nano_sort {

using oracle::Array;
using oracle::Index;
using Arrays = std::map<std::string, Array>;

inline constexpr oracle::Shape kShape{
    .layers = 3, .width = 48, .heads = 3, .ffn = 192, .vocab = 3, .context = 11, .tied_head = false};

inline std::string from_base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char digit : text.substr(0, text.find('='))) {
    bits = bits << 6 | static_cast<std::uint32_t>(kDigits.find(digit));
    count += 6;
    if (count >= 8) bytes.push_back(static_cast<char>(bits >> (count -= 8)));
  }
  return bytes;
}

// {"name": {"shape": [...], "dtype", "data": little-endian floats}}; all axes but the last become rows.
inline Arrays read_tensors(const std::string& path) {
  static_assert(std::endian::native == std::endian::little);
  std::ifstream in(path);
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  const boost::json::value all = boost::json::parse(text);
  Arrays arrays;
  for (const auto& [name, value] : all.as_object()) {
    const boost::json::object& tensor = value.as_object();
    if (!tensor.contains("data")) continue;  // the model's config
    const std::string bytes = from_base64(tensor.at("data").as_string());
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
    const auto cols = tensor.at("shape").as_array().back().to_number<Index>();
    Array array(static_cast<Index>(values.size()) / cols, cols);
    array.values.assign(values.begin(), values.end());
    arrays[name] = array;
  }
  return arrays;
}

// The names are GPT-2's, but the matrices lie (out, in), and each layer's causal mask is among them.
inline oracle::Model model_of(Arrays tensors) {
  std::erase_if(tensors, [](const auto& item) { return item.first.ends_with(".attn.bias"); });
  for (auto& [name, array] : tensors)
    if (name.find(".c_") != name.npos && name.ends_with(".weight")) array = transposed(array);
  const Arrays ours = oracle::translated(tensors);
  oracle::Model model = oracle::zeros(kShape);
  for (const oracle::Named& n : named(model)) {
    const Array& array = ours.at(n.name);
    if (array.rows != n.array->rows || array.cols != n.array->cols)
      throw std::runtime_error(n.name + ": other extents");
    *n.array = array;
  }
  return model;
}

}  // namespace lorashard::core::gpt_nano_sort
