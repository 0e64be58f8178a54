// Damage to files, by their structure and blindly, the same for a seed: what a parser must refuse or read rightly.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/core/safetensors_bytes.hpp"

namespace lorashard::core {

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  std::string operator()(const std::string& name, const std::string& content) {
    if (name.ends_with(".json")) return below(5) == 0 ? bytes(content) : json(content);
    if (name.ends_with(".safetensors")) return below(2) == 0 ? bytes(content) : safetensors(content);
    return bytes(content);
  }

 private:
  std::size_t below(std::size_t n) { return random_() % n; }
  char& any(std::string& bytes) { return bytes[below(bytes.size())]; }

  // Cut short, made longer, one to three bits turned anywhere or one near the beginning, zeros, or bytes moved.
  std::string bytes(std::string content) {
    const std::size_t at = below(content.size());
    switch (below(6)) {
      case 0:
        return content.substr(0, at);
      case 1:
        return content + std::string(1 + below(100), static_cast<char>(below(256)));
      case 2:
        content[below(std::min<std::size_t>(content.size(), 16))] ^= static_cast<char>(1 << below(8));
        return content;
      case 3:
        return content.replace(at, std::min<std::size_t>(content.size() - at, 8), std::string(8, '\0'));
      case 4:
        return content.substr(0, at) + content.substr(std::min(content.size(), at + 1 + below(8)));
      default:
        for (std::size_t i = 1 + below(3); i > 0; --i) any(content) ^= static_cast<char>(1 << below(8));
        return content;
    }
  }

  // The header as JSON, with its length put right.
  std::string safetensors(const std::string& content) {
    std::uint64_t length = 0;
    std::memcpy(&length, content.data(), 8);
    return safetensors_bytes(json(content.substr(8, length)), content.substr(8 + length));
  }

  // One place of the tree.
  std::string json(const std::string& source) {
    boost::json::value root = boost::json::parse(source);
    std::vector<boost::json::value*> all;
    collect(root, all);
    boost::json::value& node = *all[below(all.size())];
    if (node.is_object() && !node.get_object().empty()) return object(root, node.get_object());
    if (node.is_array() && !node.get_array().empty() && below(2) == 0) return array(root, node.get_array());
    if (node.is_int64() && below(2) == 0) {
      const std::int64_t steps[] = {1, -1, 8, -node.get_int64(), node.get_int64()};
      node = node.get_int64() + steps[below(std::size(steps))];
      return serialize(root);
    }
    node = kMark;
    return spliced(root, text());
  }

  static void collect(boost::json::value& node, std::vector<boost::json::value*>& all) {
    all.push_back(&node);
    if (auto* object = node.if_object())
      for (auto& entry : *object) collect(entry.value(), all);
    if (auto* array = node.if_array())
      for (auto& entry : *array) collect(entry, all);
  }

  std::string object(boost::json::value& root, boost::json::object& object) {
    const auto entry = object.begin() + static_cast<std::ptrdiff_t>(below(object.size()));
    const auto other = object.begin() + static_cast<std::ptrdiff_t>(below(object.size()));
    const std::string key(entry->key());
    const boost::json::value value = entry->value();
    switch (below(5)) {
      case 0:
        object.erase(entry);
        return serialize(root);
      case 1:
        object.erase(entry);
        object[key + (below(2) == 0 ? "\n" : "x")] = value;
        return serialize(root);
      case 2: {
        const boost::json::value moved = other->value();
        other->value() = value;
        entry->value() = moved;
        return serialize(root);
      }
      case 3: {  // the same key for the second time
        const std::string again = serialize(boost::json::value(key)) + ":" + serialize(other->value());
        object[kMark] = nullptr;
        std::string out = serialize(root);
        const std::string mark = serialize(boost::json::value(kMark)) + ":null";
        return out.replace(out.find(mark), mark.size(), again);
      }
      default:
        entry->value() = kMark;
        return spliced(root, text());
    }
  }

  std::string array(boost::json::value& root, boost::json::array& array) {
    const auto entry = array.begin() + static_cast<std::ptrdiff_t>(below(array.size()));
    const boost::json::value value = *entry;
    below(2) == 0 ? array.erase(entry) : array.insert(entry, value);
    return serialize(root);
  }

  std::string text() {
    static const std::vector<std::string> texts{"-1",
                                                "0",
                                                "1",
                                                "3",
                                                "1.5",
                                                "-0.0",
                                                "1e400",
                                                "-1e400",
                                                "1e-400",
                                                "NaN",
                                                "Infinity",
                                                "4294967296",
                                                "9223372036854775807",
                                                "-9223372036854775808",
                                                "18446744073709551615",
                                                "123456789012345678901234567890",
                                                "null",
                                                "true",
                                                "false",
                                                "\"\"",
                                                "\"a\\nb\"",
                                                "\"\\ud800\"",
                                                "\"\\u0000\"",
                                                "[]",
                                                "{}",
                                                "[[0]]",
                                                "{\"x\":1}",
                                                "[0,0]",
                                                "[1,-1]",
                                                "\"F16\"",
                                                "\"I64\"",
                                                std::string(200, '[') + std::string(200, ']'),
                                                std::string(100'000, '['),
                                                "\"" + std::string(70'000, 'y') + "\""};
    return texts[below(texts.size())];
  }

  static std::string spliced(const boost::json::value& root, const std::string& text) {
    const std::string mark = serialize(boost::json::value(kMark));
    std::string out = serialize(root);
    return out.replace(out.find(mark), mark.size(), text);
  }

  static constexpr const char* kMark = "@@here@@";
  std::mt19937 random_;
};

}  // namespace lorashard::core
