// Safetensors files made by hand: a header, and the bytes of its tensors one after the other.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace lorashard::core {

// Eight bytes of header length, the header, the data.
inline std::string safetensors_bytes(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

template <class T>
std::string raw(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// Collects tensors into a well-formed file.
class SafetensorsBuilder {
 public:
  SafetensorsBuilder& add(const std::string& name, const std::string& dtype, const std::vector<std::int64_t>& shape,
                          const std::string& data) {
    std::string extents;
    for (const auto n : shape) extents += (extents.empty() ? "" : ",") + std::to_string(n);
    header_ += (header_.empty() ? "\"" : ",\"") + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + extents +
               "],\"data_offsets\":[" + std::to_string(data_.size()) + "," +
               std::to_string(data_.size() + data.size()) + "]}";
    data_ += data;
    return *this;
  }
  SafetensorsBuilder& add(const std::string& name, const std::vector<std::int64_t>& shape,
                          const std::vector<float>& values) {
    return add(name, "F32", shape, raw(values));
  }
  std::string bytes() const { return safetensors_bytes("{" + header_ + "}", data_); }

 private:
  std::string header_, data_;
};

}  // namespace lorashard::core
