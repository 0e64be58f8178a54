#include "launch/event_file.hpp"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <boost/crc.hpp>
#include <boost/endian/conversion.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>

namespace lorashard::launch {

using core::Index;
using kernels::fail;
using kernels::Failure;
using kernels::text;

namespace {

namespace fs = std::filesystem;

// Field numbers of the messages.
namespace event {
constexpr int kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
}
namespace summary {
constexpr int kValue = 1, kTag = 1, kSimpleValue = 2;  // the latter two of a value
}
namespace session_log {
constexpr int kStatus = 1;
constexpr std::uint64_t kStart = 1;
}  // namespace session_log

enum WireType { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

template <class Unsigned>
std::string little_endian(Unsigned value) {
  boost::endian::native_to_little_inplace(value);
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// A protobuf message under construction (protobuf.dev/programming-guides/encoding).
class Message {
 public:
  Message& whole(int field, std::uint64_t value) {
    key(field, varint);
    put(value);
    return *this;
  }
  Message& real(int field, double value) {
    key(field, fixed64);
    bytes_ += little_endian(std::bit_cast<std::uint64_t>(value));
    return *this;
  }
  Message& real(int field, float value) {
    key(field, fixed32);
    bytes_ += little_endian(std::bit_cast<std::uint32_t>(value));
    return *this;
  }
  Message& inner(int field, const std::string& content) {
    key(field, WireType::bytes);
    put(content.size());
    bytes_ += content;
    return *this;
  }
  const std::string& encoded() const { return bytes_; }

 private:
  void key(int field, WireType type) { put(static_cast<std::uint64_t>(field << 3 | type)); }
  void put(std::uint64_t value) {  // seven bits a byte, the lowest first
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

// CRC-32C, turned and shifted so that the sum of data that holds such sums stays a good one.
std::uint32_t masked_crc(const std::string& data) {
  boost::crc_optimal<32, 0x1edc6f41, 0xffffffff, 0xffffffff, true, true> crc;
  crc.process_bytes(data.data(), data.size());
  return std::rotr(static_cast<std::uint32_t>(crc.checksum()), 15) + 0xa282ead8U;
}

std::string framed(const std::string& record) {
  const std::string length = little_endian(static_cast<std::uint64_t>(record.size()));
  return length + little_endian(masked_crc(length)) + record + little_endian(masked_crc(record));
}

Message event_now() {
  const std::chrono::duration<double> since_1970 = std::chrono::system_clock::now().time_since_epoch();
  Message message;
  message.real(event::kWallTime, since_1970.count());
  return message;
}

constexpr const char* kPrefix = "events.out.tfevents.";

// TensorBoard reads files in the order of their names: later than all that are there, whatever the clock says.
long long seconds_for_name(const std::string& folder) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  long long seconds = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    long long other = 0;
    const std::string name = entry.path().filename();
    if (name.starts_with(kPrefix) && std::sscanf(name.c_str() + std::strlen(kPrefix), "%lld.", &other) == 1)
      seconds = std::max(seconds, other + 1);
  }
  return seconds;
}

std::string name_for(const std::string& folder) {
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  return text(folder, "/", kPrefix, seconds_for_name(folder), ".", host, ".", ::getpid());
}

}  // namespace

TaggedValues tagged_values(const core::StepReport& report, double seconds, const std::vector<core::NamedLoss>& losses) {
  TaggedValues values{{"loss", report.loss},
                      {"grad_norm", report.grad_norm},
                      {"lr", report.lr},
                      {"tokens_per_s", static_cast<double>(report.tokens) / seconds}};
  if (!losses.empty()) values.emplace_back("valid_loss", losses[0].loss);
  if (losses.size() > 1)
    for (const core::NamedLoss& each : losses) values.emplace_back("valid_losses/" + each.name, each.loss);
  for (const core::LayerNorms& each : report.layers) {
    const std::string layer = text("layer_", each.layer < 10 ? "0" : "", each.layer, "/");
    if (each.adapted) values.insert(values.end(), {{layer + "a_norm", each.a_norm}, {layer + "b_norm", each.b_norm}});
    values.emplace_back(layer + "grad_norm", each.grad_norm);
  }
  return values;
}

EventFile::EventFile(const std::string& folder, Index first) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(Failure::storage, text(folder, ": cannot be made: ", error.message()));
  path_ = name_for(folder);
  file_.open(path_, std::ios::binary);
  write(event_now().inner(event::kFileVersion, "brain.Event:2").encoded());
  write(event_now()
            .whole(event::kStep, static_cast<std::uint64_t>(first))
            .inner(event::kSessionLog, Message().whole(session_log::kStatus, session_log::kStart).encoded())
            .encoded());
}

void EventFile::append(Index step, const TaggedValues& values) {
  Message all;
  for (const auto& [tag, value] : values)
    all.inner(summary::kValue,
              Message().inner(summary::kTag, tag).real(summary::kSimpleValue, static_cast<float>(value)).encoded());
  write(event_now()
            .whole(event::kStep, static_cast<std::uint64_t>(step))
            .inner(event::kSummary, all.encoded())
            .encoded());
}

void EventFile::write(const std::string& event) {
  errno = 0;
  file_ << framed(event) << std::flush;
  if (!file_) fail(Failure::storage, text(path_, ": cannot be written: ", std::strerror(errno)));
}

}  // namespace lorashard::launch
