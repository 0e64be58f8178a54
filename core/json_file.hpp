// JSON from files that are not trusted: bounded in size and depth, and fields looked up with messages that name the
// file, the field, what was found and what was expected. All throw Failure::configuration.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lorashard::core {

// The largest JSON text that is read at all; the limit of the safetensors reference for its headers.
inline constexpr std::uint64_t kMostJson_bytes = 100'000'000;

// `path` is what messages call the text. The value must be an object.
boost::json::object parse_json_object(std::string_view text, const std::string& path);
boost::json::object read_json_object(const std::string& path);

// What a message shows of a value: its kind and, when short, its text.
std::string shown(const boost::json::value* value);

// Fields of an object. A field that is absent or null gives the fallback where there is one, and is refused otherwise.
struct JsonFields {
  const boost::json::object& object;
  const std::string& path;

  const boost::json::value* find(std::string_view key) const;  // nullptr when absent or null
  std::int64_t integer(std::string_view key, std::int64_t least, std::int64_t most) const;
  std::int64_t integer(std::string_view key, std::int64_t least, std::int64_t most, std::int64_t fallback) const;
  // A number, or an array of them; none where there is none. `expected` is what messages ask for.
  std::vector<std::int64_t> integers(std::string_view key, std::int64_t least, std::int64_t most,
                                     const char* expected) const;
  double real(std::string_view key) const;
  std::string text(std::string_view key) const;
  bool flag(std::string_view key, bool fallback) const;
  [[noreturn]] void refuse(std::string_view key,
                           const std::string& expected) const;  // "path: key: found ..., expected"
};

}  // namespace lorashard::core
