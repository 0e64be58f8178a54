// What a fuzzer feeds, and what the replay of its corpus (tests/core/test_fuzz_corpus.cpp) feeds again: each takes any
// bytes at all. A parser may refuse them with one line of Failure::configuration; anything else ends the process.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>

#include "kernels/error.hpp"

namespace lorashard::fuzz {

void safetensors(std::span<const char> input);  // eight bytes of data length and a header; also a whole file
void config(std::span<const char> input);       // a job file
void json_lines(std::span<const char> input);   // lines of input_ids and labels
void tokenizer_json(std::span<const char> input);

inline void insist(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: this does not hold: %s\n", what);
  std::abort();
}

// Runs a parser; true when it accepted.
template <class Parse>
bool accepts(const Parse& parse) {
  try {
    parse();
    return true;
  } catch (const kernels::Error& error) {
    const std::string what = error.what();
    insist(error.failure() == kernels::Failure::configuration, "input is refused as Failure::configuration");
    insist(!what.empty() && what.find('\n') == what.npos, "a refusal is one line");
    return false;
  }
}

}  // namespace lorashard::fuzz
