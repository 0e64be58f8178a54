// What a tokenizer.json does to a text before it is cut: its "normalizer".
#pragma once

#include <boost/json/value.hpp>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace lorashard::core {

class TextNormalizer {
 public:
  // The value of "normalizer"; nullptr: none. NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip and Sequence;
  // anything else throws Failure::configuration "<where>: ...".
  TextNormalizer(const boost::json::value* description, const std::string& where);
  // `continues`: the text goes on from another one, so nothing is put in front of it. Valid UTF-8 in and out.
  std::string operator()(std::string text, bool continues) const;

 private:
  void add(const boost::json::value& description, const std::string& where);
  struct Step {
    std::function<void(std::string&)> change;
    bool front_only = false;
  };
  std::vector<Step> steps_;
};

}  // namespace lorashard::core
