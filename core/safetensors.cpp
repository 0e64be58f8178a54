#include "core/safetensors.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "core/digest.hpp"
#include "core/json_file.hpp"
#include "core/quote.hpp"
#include "kernels/numbers.hpp"

namespace lorashard::core {
namespace {

using kernels::fail;
using kernels::Failure;
using kernels::text;

static_assert(std::endian::native == std::endian::little,
              "the format is little-endian, and so are the copies made here");

// Stored bytes are converted through a buffer of this size.
constexpr std::size_t kBuffer_bytes = 1 << 20;

[[noreturn]] void refuse(const std::string& path, const std::string& problem) {
  fail(Failure::configuration, text(path, ": ", problem));
}

// IEEE binary16: 1 sign, 5 exponent and 10 fraction bits. Subnormals are counts of 2^-24.
float half_to_float(std::uint16_t h) {
  const std::uint32_t sign = std::uint32_t{h & 0x8000u} << 16, exponent = (h >> 10) & 31u, fraction = h & 0x3ffu;
  if (exponent == 0)
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(static_cast<float>(fraction) * 0x1p-24f));
  const std::uint32_t wide = exponent == 31 ? 255u : exponent + 112u;
  return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
}

template <class Stored>
Stored stored_at(const char* from, std::size_t i) {
  Stored value;
  std::memcpy(&value, from + i * sizeof value, sizeof value);
  return value;
}

template <class Number>
void convert(StoredType type, const char* from, std::size_t count, Number* to) {
  const auto each = [&](auto element) {
    for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<Number>(element(i));
  };
  switch (type) {
    case StoredType::f64:
      return each([&](std::size_t i) { return stored_at<double>(from, i); });
    case StoredType::f32:
      return each([&](std::size_t i) { return stored_at<float>(from, i); });
    case StoredType::f16:
      return each([&](std::size_t i) { return half_to_float(stored_at<std::uint16_t>(from, i)); });
    default:
      return each([&](std::size_t i) { return kernels::to_float(kernels::bf16{stored_at<std::uint16_t>(from, i)}); });
  }
}

std::size_t floating_bytes(StoredType type) {
  switch (type) {
    case StoredType::f64:
      return 8;
    case StoredType::f32:
      return 4;
    case StoredType::f16:
    case StoredType::bf16:
      return 2;
    default:
      return 0;
  }
}

bool plain_file_name(const std::string& name) {
  constexpr std::size_t kMostName = 255;
  return !name.empty() && name != "." && name != ".." && name.size() <= kMostName &&
         std::none_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == '/' || c == 0x7f; });
}

}  // namespace

// One open file.
struct SafeTensors::Shard {
  std::string path;
  int descriptor = -1;
  std::uint64_t data_begin = 0;
  Header header;

  explicit Shard(const std::string& path);
  ~Shard() {
    if (descriptor >= 0) ::close(descriptor);
  }
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;
  void read(char* to, std::uint64_t first, std::size_t bytes) const;

 private:
  void parse(std::uint64_t file_bytes);
};

SafeTensors::Shard::Shard(const std::string& path) : path(path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) refuse(path, text("cannot open: ", std::strerror(errno)));
  if (!S_ISREG(status.st_mode)) refuse(path, "found a directory or device, expected a safetensors file");
  descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) refuse(path, text("cannot open: ", std::strerror(errno)));
  try {
    parse(static_cast<std::uint64_t>(status.st_size));
  } catch (...) {
    ::close(descriptor);
    throw;
  }
}

void SafeTensors::Shard::parse(std::uint64_t file_bytes) {
  if (file_bytes < 8) refuse(path, text("found ", file_bytes, " bytes, expected a safetensors file"));
  std::uint64_t header_bytes = 0;
  read(reinterpret_cast<char*>(&header_bytes), 0, 8);
  if (header_bytes > kMostJson_bytes || header_bytes > file_bytes - 8)
    refuse(path, text("found a header of ", header_bytes, " bytes, expected at most ",
                      std::min(kMostJson_bytes, file_bytes - 8), ": no safetensors file, or truncated"));
  std::string json(header_bytes, '\0');
  read(json.data(), 8, json.size());
  data_begin = 8 + header_bytes;
  header = parse_header(json, file_bytes - data_begin, path);
}

void SafeTensors::Shard::read(char* to, std::uint64_t first, std::size_t bytes) const {
  while (bytes > 0) {
    const ssize_t got = ::pread(descriptor, to, bytes, static_cast<off_t>(first));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) refuse(path, text("cannot read: ", std::strerror(errno)));
    if (got == 0) refuse(path, text("ends at byte ", first, ": it was cut while it was read"));
    to += got, first += static_cast<std::uint64_t>(got), bytes -= static_cast<std::size_t>(got);
  }
}

SafeTensors SafeTensors::open(const std::string& path) {
  SafeTensors tensors;
  tensors.path_ = path;
  if (!path.ends_with(".index.json")) {
    const auto shard = std::make_shared<Shard>(path);
    tensors.entries_ = shard->header.entries;
    tensors.metadata_ = shard->header.metadata;
    for (const auto& item : tensors.entries_) tensors.shard_of_.emplace(item.first, shard);
    return tensors;
  }
  const boost::json::object index = read_json_object(path);
  const boost::json::value* map = JsonFields{index, path}.find("weight_map");
  if (!map || !map->is_object()) JsonFields{index, path}.refuse("weight_map", "an object of tensor and file names");
  std::map<std::string, std::shared_ptr<Shard>> shards;
  for (const auto& item : map->get_object()) {
    const std::string tensor(item.key());
    const std::string file(item.value().is_string() ? std::string(item.value().get_string()) : "");
    if (!plain_file_name(file))
      refuse(path, text("weight_map: ", in_quotes(tensor), ": found ", shown(&item.value()),
                        ", expected the name of a file in the same directory"));
    auto& shard = shards[file];
    if (!shard) shard = std::make_shared<Shard>((std::filesystem::path(path).parent_path() / file).string());
    const auto entry = shard->header.entries.find(tensor);
    if (entry == shard->header.entries.end())
      refuse(path, text("weight_map: ", in_quotes(tensor), " is not in ", in_quotes(file)));
    tensors.entries_.insert(*entry);
    tensors.shard_of_.emplace(tensor, shard);
  }
  return tensors;
}

const SafeTensors::Entry& SafeTensors::entry(const std::string& tensor) const {
  const auto found = entries_.find(tensor);
  if (found == entries_.end()) refuse(path_, text("tensor ", in_quotes(tensor), " is missing"));
  return found->second;
}

template <class Number>
std::vector<Number> SafeTensors::read_as(const std::string& tensor, Index first, Index count) const {
  const Entry& entry = this->entry(tensor);
  const Shard& shard = *shard_of_.at(tensor);
  const std::size_t element = floating_bytes(entry.type);
  if (element == 0)
    refuse(shard.path,
           text("tensor ", in_quotes(tensor), ": found ", name(entry.type), ", expected F64, F32, F16 or BF16"));
  if (first < 0 || count < 0 || first > entry.count() - count)
    fail(Failure::other,
         text(shard.path, ": ", tensor, ": elements ", first, " to ", first + count, " of ", entry.count()));
  std::vector<Number> values(static_cast<std::size_t>(count));
  std::vector<char> buffer(std::min(kBuffer_bytes, values.size() * element));
  std::uint64_t from = shard.data_begin + entry.begin + static_cast<std::uint64_t>(first) * element;
  for (std::size_t done = 0; done < values.size();) {
    const std::size_t some = std::min(values.size() - done, buffer.size() / element);
    shard.read(buffer.data(), from, some * element);
    convert(entry.type, buffer.data(), some, values.data() + done);
    done += some, from += some * element;
  }
  return values;
}

std::vector<float> SafeTensors::read(const std::string& tensor, Index first, Index count) const {
  return read_as<float>(tensor, first, count);
}
std::vector<float> SafeTensors::read(const std::string& tensor) const {
  return read_as<float>(tensor, 0, entry(tensor).count());
}
std::vector<float> SafeTensors::read_finite(const std::string& tensor, Index first, Index count) const {
  std::vector<float> values = read(tensor, first, count);
  const auto bad = std::find_if(values.begin(), values.end(), [](float x) { return !std::isfinite(x); });
  if (bad != values.end())
    refuse(shard_of_.at(tensor)->path, text("tensor ", in_quotes(tensor), ": found ", *bad, " at element ",
                                            first + (bad - values.begin()), ", expected finite numbers"));
  return values;
}
std::vector<float> SafeTensors::read_finite(const std::string& tensor) const {
  return read_finite(tensor, 0, entry(tensor).count());
}
std::vector<double> SafeTensors::read_double(const std::string& tensor) const {
  return read_as<double>(tensor, 0, entry(tensor).count());
}

std::string SafeTensors::base_digest() const {
  const auto found = metadata_.find(kBaseDigest);
  return found == metadata_.end() ? "" : found->second;
}

bool SafeTensors::has_digests() const {
  return std::any_of(metadata_.begin(), metadata_.end(),
                     [](const auto& item) { return item.first.starts_with(kTensorDigest); });
}

void SafeTensors::verify_digests() const {
  if (!has_digests()) return;
  const std::string prefix = kTensorDigest;
  for (const auto& [key, expected] : metadata_) {
    if (!key.starts_with(prefix)) continue;
    const std::string tensor = key.substr(prefix.size());
    const Entry& entry = this->entry(tensor);
    const Shard& shard = *shard_of_.at(tensor);
    std::vector<char> bytes(entry.end - entry.begin);
    shard.read(bytes.data(), shard.data_begin + entry.begin, bytes.size());
    if (const std::string found = digest_of(bytes.data(), bytes.size()).hex(); found != expected)
      refuse(path_, text("tensor ", in_quotes(tensor), " is damaged: its digest is ", found, ", expected ",
                         in_quotes(expected)));
  }
  for (const auto& [tensor, entry] : entries_)
    if (!metadata_.count(prefix + tensor))
      refuse(path_, text("tensor ", in_quotes(tensor), " is none of those that the file names the digests of"));
}

}  // namespace lorashard::core
