#include "launch/synthetic_tokens.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "core/tokenize.hpp"

namespace lorashard::launch {

namespace fs = std::filesystem;
using kernels::Index;
using kernels::text;

SyntheticTokens::SyntheticTokens(Index vocab, Index length, Index rows) {
  const std::string stem = fs::temp_directory_path() / text("lorashard-", ::getpid());
  const std::string lines_path = stem + ".jsonl";
  path_ = stem + ".h5";
  std::mt19937_64 random(1);  // the same on every rank
  std::ofstream lines(lines_path);
  for (Index row = 0; row < rows; ++row) {
    std::string ids;
    for (Index i = 0; i <= length; ++i) {
      // The first row carries the largest id, so that the file's vocabulary is the one asked for.
      const Index id =
          row == 0 && i == 0 ? vocab - 1 : static_cast<Index>(random() % static_cast<std::uint64_t>(vocab));
      ids += text(i ? "," : "", id);
    }
    lines << "{\"input_ids\":[" << ids << "],\"labels\":[" << ids << "]}\n";
  }
  lines.close();
  if (!lines) kernels::fail(kernels::Failure::storage, text(lines_path, ": cannot be written"));
  core::tokenize_file(
      {.from = lines_path, .to = path_, .format = core::TextFormat::json, .vocab = "", .vocab_size = vocab});
  fs::remove(lines_path);
}

SyntheticTokens::~SyntheticTokens() {
  std::error_code error;
  fs::remove(path_, error);
}

}  // namespace lorashard::launch
