#include <sys/mman.h>
#include <unistd.h>

#include "core/tokenize.hpp"
#include "tests/fuzz/targets.hpp"

namespace lorashard::fuzz {
namespace {

using core::TextFormat;

// Reads the input as `format`. Writing always fails, below a path that can be no directory: that tells what was
// accepted without paying for a file.
void feed(const std::string& path, TextFormat format, kernels::Index vocab_size) {
  core::TokenizeJob job;
  job.from = path;
  job.to = "/dev/null/tokens.h5";
  job.format = format;
  job.vocab_size = vocab_size;
  accepts([&] {
    try {
      core::tokenize_file(job);
      insist(false, "nothing can be written below /dev/null");
    } catch (const kernels::Error& error) {
      if (error.failure() != kernels::Failure::storage) throw;
    }
  });
}

}  // namespace

void json_lines(std::span<const char> input) {
  const int descriptor = ::memfd_create("input", MFD_CLOEXEC);
  insist(descriptor >= 0, "a file in memory can be made");
  insist(::write(descriptor, input.data(), input.size()) == static_cast<ssize_t>(input.size()), "it takes the bytes");
  const std::string path = kernels::text("/proc/self/fd/", descriptor);
  feed(path, TextFormat::json, 0);
  feed(path, TextFormat::json, 100);
  feed(path, TextFormat::pairs, 0);
  feed(path, TextFormat::text, 0);
  feed(path, TextFormat::automatic, 0);
  ::close(descriptor);
}

}  // namespace lorashard::fuzz
