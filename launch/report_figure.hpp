// A figure of a report: where it stands in the data, and how it is written.
//
// In the page each is <span data-at="/step_s" data-as="ms">9,956</span>. Where a figure is not itself in the data,
// further attributes say what it is made of: (at + plus - less) x times / of, each a JSON pointer. A '*' in a pointer
// stands for every member of an array or object, and `over` for what becomes of them: sum, mean or max.
#pragma once

#include <boost/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace lorashard::launch {

struct Figure {
  std::string at;
  std::string as;  // formatted() knows the names
  std::string plus = {}, less = {}, times = {}, of = {};
  std::string over = {};
};

// "bytes" 1.21 GiB, "count" 1,234, "short" 174.6 B, "ms" of seconds, "seconds" 4 min 12 s, "percent" 12.3 %,
// "times" 8.4, "tera" of single operations, "fixed1" "fixed2" "fixed4", "number": three digits or more of what has no
// scale.
std::string formatted(double value, const std::string& as);

// Of HTML text and attributes.
std::string escaped(std::string_view text);

// pointer("front", "lora", 3) = "/front/lora/3", names escaped.
std::string pointer_token(const std::string& name);
std::string pointer_token(std::size_t index);
template <class... Tokens>
std::string pointer(const Tokens&... tokens) {
  return (std::string() + ... + pointer_token(tokens));
}

// The data of a report.
class Source {
 public:
  explicit Source(const boost::json::object& data) : data_(data) {}

  // Null where it is not there, or null.
  const boost::json::value* find(const std::string& pointer) const;
  const boost::json::object* object(const std::string& pointer) const;
  const boost::json::array* array(const std::string& pointer) const;
  std::string string(const std::string& pointer) const;  // empty where it is not there
  std::vector<std::string> keys(const std::string& pointer) const;
  std::size_t size(const std::string& pointer) const;  // of an array; 0 where it is not there

  // Nothing where a part of it is not there or not a number.
  std::optional<double> value(const Figure& figure) const;
  double value_or_zero(const Figure& figure) const { return value(figure).value_or(0); }

  // What a reader sees: empty where there is no value. "text": a string of the data, "key": the last name of the
  // pointer.
  std::string text(const Figure& figure) const;
  // The same as an element; a dash where there is no value.
  std::string html(const Figure& figure) const;

 private:
  const boost::json::object& data_;
};

// ` data-at="..." data-as="..."` and the others that are there.
std::string attributes(const Figure& figure);

}  // namespace lorashard::launch
