// The text of tokens, put back together: the "decoder" of a tokenizer.json.
#pragma once

#include <boost/json/value.hpp>
#include <functional>
#include <string>
#include <vector>

namespace lorashard::core {

class TokenDecoder {
 public:
  // The value of "decoder". ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace and Sequence; anything else throws
  // Failure::configuration "<where>: ...".
  TokenDecoder(const boost::json::value* description, const std::string& where);

  // The bytes of one token's text; `first`: no token was decoded before it. Bytes are as they are: what the reference
  // shows as U+FFFD, because they are no UTF-8, stays what it is.
  std::string operator()(std::string token, bool first) const;

  // Taken from the front of the whole decoded text, up to `count` times.
  struct Front {
    std::string text;
    std::int64_t count = 0;
  };
  const Front& front() const { return front_; }

 private:
  void add(const boost::json::value& description, const std::string& where);
  void add_strip(const class Described& step);
  std::vector<std::function<std::string(std::string&&, bool)>> steps_;
  bool fused_ = false;
  Front front_;
};

}  // namespace lorashard::core
