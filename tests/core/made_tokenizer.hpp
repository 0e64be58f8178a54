// A tokenizer.json of a few letters, changed by each test. What it answers was asked of tokenizers 0.23.3.
#pragma once

#include <boost/json.hpp>
#include <memory>
#include <string>

#include "core/tokenizer.hpp"
#include "tests/core/temporary_directory.hpp"

namespace lorashard::core {

struct MadeTokenizer {
  boost::json::value json = boost::json::parse(R"({"version": "1.0", "normalizer": null, "pre_tokenizer": null,
    "post_processor": null, "decoder": {"type": "Fuse"}, "added_tokens": [], "model": {"type": "BPE",
    "unk_token": "<unk>", "vocab": {"<unk>": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "abc": 5, " ": 6, "bc": 7, "A": 8},
    "merges": ["b c", "a b", ["a", "bc"]]}})");
  TemporaryDirectory directory;

  boost::json::object& file() { return json.get_object(); }
  boost::json::object& model() { return json.at("model").get_object(); }
  void add(const std::string& content, int id, bool special, std::initializer_list<const char*> flags = {}) {
    boost::json::object token{{"id", id}, {"content", content}, {"special", special}, {"normalized", false}};
    for (const char* flag : flags) token[flag] = true;
    json.at("added_tokens").get_array().push_back(token);
  }
  std::string path() const { return directory / "tokenizer.json"; }
  std::unique_ptr<Tokenizer> make() const {
    put_bytes(path(), boost::json::serialize(json));
    return make_tokenizer(path());
  }
};

}  // namespace lorashard::core
