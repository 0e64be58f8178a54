// A part of a tokenizer.json as it describes itself: an object with a "type" and the fields that go with it. What is
// wrong throws Failure::configuration "<file>: <part>: 'field': found X, expected Y".
#pragma once

#include <string>

#include "core/json_file.hpp"
#include "core/text_pattern.hpp"
#include "kernels/error.hpp"

namespace lorashard::core {

class Described {
 public:
  Described(const boost::json::value& value, const std::string& where)
      : object_(object_of(value, where)), where_(where), fields_{object_, where_}, type_(fields_.text("type")) {}
  Described(const Described&) = delete;
  Described& operator=(const Described&) = delete;

  const std::string& type() const { return type_; }
  const JsonFields& fields() const { return fields_; }
  const std::string& where() const { return where_; }
  [[noreturn]] void refuse_type(const std::string& expected) const { fields_.refuse("type", expected); }

  // The parts of a Sequence.
  template <class Take>
  void each(const char* field, const Take& take) const {
    const boost::json::value* parts = fields_.find(field);
    if (!parts || !parts->is_array()) fields_.refuse(field, "an array");
    std::size_t number = 0;
    for (const boost::json::value& part : parts->get_array())
      take(part, kernels::text(where_, ".", field, "[", number++, "]"));
  }

  // {"String": text} or {"Regex": pattern}.
  TextPattern pattern() const {
    const boost::json::value* value = fields_.find("pattern");
    const boost::json::object* object = value ? value->if_object() : nullptr;
    const std::string at = where_ + ".pattern";
    if (!object || object->size() != 1) fields_.refuse("pattern", "an object with String or Regex");
    const JsonFields one{*object, at};
    return one.find("Regex") ? TextPattern::regex(one.text("Regex"), at) : TextPattern::literal(one.text("String"), at);
  }

 private:
  static const boost::json::object& object_of(const boost::json::value& value, const std::string& where) {
    if (!value.is_object())
      kernels::fail(kernels::Failure::configuration,
                    kernels::text(where, ": found ", shown(&value), ", expected an object with a type"));
    return value.get_object();
  }

  const boost::json::object& object_;
  std::string where_;
  JsonFields fields_;
  std::string type_;
};

}  // namespace lorashard::core
