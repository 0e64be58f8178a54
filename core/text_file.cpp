#include "core/text_file.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include "kernels/error.hpp"

namespace lorashard::core {
namespace {

[[noreturn]] void refuse(const std::string& path) {
  const int reason = errno;
  kernels::fail(kernels::Failure::configuration,
                kernels::text(path, ": cannot read: ", reason ? std::strerror(reason) : "unknown reason"));
}

}  // namespace

std::string read_text_file(const std::string& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::vector<char> piece(1 << 16);
  std::string content;
  while (in) {
    in.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    content.append(piece.data(), static_cast<std::size_t>(in.gcount()));
  }
  if (!in.eof()) refuse(path);  // could not be opened, or is a directory
  return content;
}

LineReader::LineReader(const std::string& path) : path_(path) {
  errno = 0;
  in_.open(path, std::ios::binary);
  if (!in_) refuse(path);
}

bool LineReader::next(std::string& line) {
  errno = 0;
  if (!std::getline(in_, line)) {
    if (in_.bad()) refuse(path_);
    return false;
  }
  ++number_;
  return true;
}

void write_whole(const std::string& path, const std::string& content) {
  const std::string partial = path + ".partial";
  std::ofstream file(partial, std::ios::binary);
  file << content;
  file.close();
  std::error_code error = file ? std::error_code() : std::make_error_code(std::errc::io_error);
  if (!error) std::filesystem::rename(partial, path, error);
  if (error) kernels::fail(kernels::Failure::storage, kernels::text(path, ": cannot be written: ", error.message()));
}

}  // namespace lorashard::core
