#include "core/safetensors_writer.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "kernels/error.hpp"

namespace lorashard::core {
namespace {

namespace json = boost::json;
using kernels::DType;
using kernels::fail;
using kernels::Failure;
using kernels::text;

[[noreturn]] void fail_system(const std::string& path, const char* trying) {
  fail(Failure::storage, text(path, ": cannot ", trying, ": ", std::strerror(errno)));
}

// Padded with blanks, so that the data begin at a multiple of 8.
std::string header_of(const std::vector<NewTensor>& tensors, const std::map<std::string, std::string>& metadata) {
  json::object header, more{{"format", "pt"}};
  for (const auto& [key, value] : metadata) more[key] = value;
  header["__metadata__"] = std::move(more);
  Index at = 0;
  for (const NewTensor& tensor : tensors) {
    json::array extents(tensor.extents.begin(), tensor.extents.end());
    header[tensor.name] = {{"dtype", tensor.dtype == DType::f32 ? "F32" : "BF16"},
                           {"shape", std::move(extents)},
                           {"data_offsets", {at, at + tensor.bytes()}}};
    at += tensor.bytes();
  }
  std::string text = json::serialize(header);
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

}  // namespace

Index NewTensor::bytes() const {
  Index count = kernels::size_bytes(dtype);
  for (const Index n : extents) count *= n;
  return count;
}

SafeTensorsWriter::SafeTensorsWriter(const std::string& path, const std::vector<NewTensor>& tensors,
                                     const std::map<std::string, std::string>& metadata)
    : path_(path), partial_(path + ".partial") {
  descriptor_ = ::open(partial_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_system(partial_, "create");
  for (const NewTensor& tensor : tensors) left_bytes_ += tensor.bytes();
  const std::string header = header_of(tensors, metadata);
  const std::uint64_t length = header.size();
  try {
    put(&length, sizeof length);
    put(header.data(), header.size());
  } catch (...) {
    ::close(descriptor_);
    ::unlink(partial_.c_str());
    throw;
  }
}

SafeTensorsWriter::~SafeTensorsWriter() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(partial_.c_str());
}

void SafeTensorsWriter::put(const void* data, std::size_t bytes) {
  for (auto* from = static_cast<const char*>(data); bytes > 0;) {
    const ssize_t written = ::write(descriptor_, from, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail_system(partial_, "write");
    from += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

void SafeTensorsWriter::write(std::span<const std::byte> bytes) {
  left_bytes_ -= static_cast<Index>(bytes.size());
  if (left_bytes_ < 0) fail(Failure::other, text(path_, ": more data than its header announces"));
  put(bytes.data(), bytes.size());
}

void SafeTensorsWriter::finish() {
  if (left_bytes_ != 0) fail(Failure::other, text(path_, ": ", left_bytes_, " bytes of what its header announces are missing"));
  if (::fsync(descriptor_) != 0 && errno != EINVAL) fail_system(partial_, "flush to the disk");
  ::close(std::exchange(descriptor_, -1));
  if (std::rename(partial_.c_str(), path_.c_str()) != 0) {
    const int reason = errno;
    ::unlink(partial_.c_str());
    errno = reason;
    fail_system(path_, "put the new file in its place");
  }
}

}  // namespace lorashard::core
