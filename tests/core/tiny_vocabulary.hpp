// A vocabulary in GPT-2's format with a handful of merges, small enough to follow by hand.
#pragma once

#include <string>
#include <vector>

#include "tests/core/temporary_directory.hpp"

namespace lorashard::core {

// The characters GPT-2 shows bytes as, in the order of their ids: '!' is 0, 'a' is 64, the space (byte 32, "Ġ") is 220.
inline std::vector<std::string> byte_tokens() {
  const auto utf8 = [](int c) {
    return c < 0x80 ? std::string(1, static_cast<char>(c))
                    : std::string{static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
  };
  std::vector<std::string> tokens;
  for (int c = 33; c < 256; ++c)
    if (c < 127 || (c > 160 && c != 173)) tokens.push_back(utf8(c));
  for (int c = 256; c < 256 + 68; ++c) tokens.push_back(utf8(c));
  return tokens;
}

// Ids from 256 on: " t", "he", " the", "in", "aa", "aaaa", then the end of a text (262).
struct TinyVocabulary {
  std::vector<std::string> tokens = byte_tokens();
  std::string merges = "#version: 0.2\nĠ t\nh e\nĠt he\ni n\na a\naa aa\n";

  TinyVocabulary() {
    for (const char* token : {"Ġt", "he", "Ġthe", "in", "aa", "aaaa", "<|endoftext|>"}) tokens.push_back(token);
  }
  std::string json() const {
    std::string out = "{";
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const bool escape = tokens[i] == "\"" || tokens[i] == "\\";
      out += (i ? ", \"" : "\"") + std::string(escape ? "\\" : "") + tokens[i] + "\": " + std::to_string(i);
    }
    return out + "}";
  }
  void write(const TemporaryDirectory& to, const std::string& vocabulary, const std::string& merge_file) const {
    put_bytes(to / vocabulary, json());
    put_bytes(to / merge_file, merges);
  }
};

}  // namespace lorashard::core
