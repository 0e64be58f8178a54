#include "core/json_file.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/quote.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {
namespace {

namespace json = boost::json;
using kernels::fail;
using kernels::Failure;
using kernels::text;

constexpr std::size_t kMostDepth = 16;

}  // namespace

json::object parse_json_object(std::string_view source, const std::string& path) {
  json::parse_options options;
  options.max_depth = kMostDepth;
  json::error_code error;
  json::value value = json::parse({source.data(), source.size()}, error, {}, options);
  if (error)
    fail(Failure::configuration, text(path, ": found invalid JSON (", error.message(), "), expected an object"));
  if (!value.is_object())
    fail(Failure::configuration, text(path, ": found ", shown(&value), ", expected a JSON object"));
  return std::move(value.get_object());
}

json::object read_json_object(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error))
    fail(Failure::configuration, text(path, ": cannot open: ", error ? error.message() : "found no regular file"));
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  if (error || bytes > kMostJson_bytes)
    fail(Failure::configuration, text(path, ": found ", bytes, " bytes, expected at most ", kMostJson_bytes));
  std::ifstream in(path, std::ios::binary);
  std::string source(bytes, '\0');
  if (!in.read(source.data(), static_cast<std::streamsize>(bytes)))
    fail(Failure::configuration, text(path, ": cannot read: ", std::strerror(errno)));
  return parse_json_object(source, path);
}

std::string shown(const json::value* value) {
  if (!value || value->is_null()) return "nothing";
  if (value->is_object()) return "an object";
  if (value->is_array()) return "an array";
  if (value->is_string()) return in_quotes(std::string_view(value->get_string()));
  return json::serialize(*value);
}

const json::value* JsonFields::find(std::string_view key) const {
  const json::value* value = object.if_contains({key.data(), key.size()});
  return value && !value->is_null() ? value : nullptr;
}

void JsonFields::refuse(std::string_view key, const std::string& expected) const {
  fail(Failure::configuration,
       kernels::text(path, ": ", in_quotes(key), ": found ", shown(object.if_contains({key.data(), key.size()})),
                     ", expected ", expected));
}

std::int64_t JsonFields::integer(std::string_view key, std::int64_t least, std::int64_t most) const {
  const json::value* value = find(key);
  const std::int64_t* whole = value ? value->if_int64() : nullptr;
  if (!whole || *whole < least || *whole > most)
    refuse(key, kernels::text("a whole number from ", least, " to ", most));
  return *whole;
}

std::int64_t JsonFields::integer(std::string_view key, std::int64_t least, std::int64_t most,
                                 std::int64_t fallback) const {
  return find(key) ? integer(key, least, most) : fallback;
}

std::vector<std::int64_t> JsonFields::integers(std::string_view key, std::int64_t least, std::int64_t most,
                                               const char* expected) const {
  const json::value* value = find(key);
  std::vector<std::int64_t> all;
  if (!value) return all;
  const json::array one{*value};
  for (const json::value& entry : value->is_array() ? value->get_array() : one) {
    const std::int64_t* whole = entry.if_int64();
    if (!whole || *whole < least || *whole > most) refuse(key, expected);
    all.push_back(*whole);
  }
  return all;
}

double JsonFields::real(std::string_view key) const {
  const json::value* value = find(key);
  if (!value || !value->is_number()) refuse(key, "a number");
  return value->to_number<double>();
}

std::string JsonFields::text(std::string_view key) const {
  const json::value* value = find(key);
  if (!value || !value->is_string()) refuse(key, "text");
  return std::string(value->get_string());
}

bool JsonFields::flag(std::string_view key, bool fallback) const {
  const json::value* value = find(key);
  if (!value) return fallback;
  if (!value->is_bool()) refuse(key, "true or false");
  return value->get_bool();
}

}  // namespace lorashard::core
