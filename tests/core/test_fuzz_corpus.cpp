// Feeds every file of tests/fuzz/corpus_* to its fuzz target again, with what damage the target itself checks for; and
// every file cut short and with flipped bits, so that the targets meet new input in each run of the tests.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <random>

#include "tests/core/temporary_directory.hpp"
#include "tests/fuzz/targets.hpp"

namespace lorashard::fuzz {
namespace {

void feed_all(const std::string& name, void (*target)(std::span<const char>)) {
  std::size_t files = 0;
  std::mt19937 random(11);
  for (const auto& file : std::filesystem::directory_iterator("tests/fuzz/corpus_" + name)) {
    ++files;
    const std::string bytes = core::bytes_of(file.path());
    target(bytes);
    for (int round = 0; round < 20 && !bytes.empty(); ++round) {
      std::string damaged = bytes.substr(0, round % 2 ? bytes.size() : random() % bytes.size());
      if (!damaged.empty()) damaged[random() % damaged.size()] ^= static_cast<char>(1 << random() % 8);
      target(damaged);
    }
  }
  EXPECT_GT(files, 4u);
}

TEST(FuzzCorpus, Safetensors) { feed_all("safetensors", safetensors); }
TEST(FuzzCorpus, JsonLines) { feed_all("json_lines", json_lines); }
TEST(FuzzCorpus, TokenizerJson) { feed_all("tokenizer_json", tokenizer_json); }
TEST(FuzzCorpus, Config) { feed_all("config", config); }

}  // namespace
}  // namespace lorashard::fuzz
